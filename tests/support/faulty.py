"""What a process does to itself, or waits to have done to it, when its work has come far enough.

Told by the environment: FAULT is what to do, FAULT_FOLDER where the test and the process see
each other, FAULT_TABLES which tables must have come to their step first. A table's step is in
its name, as :func:`table_name` writes it, so that one fault hits every step at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from enum import StrEnum
from pathlib import Path


class Deed(StrEnum):
    """What happens when all tables have come to their step."""

    KILL = "kill"  # the process, by itself
    STOP = "stop"  # until the test lets it go on
    WAIT = "wait"  # for the test, which does something to the outside world


def table_name(step: StrEnum, operation: str) -> str:
    """Name a table whose committer, or client, shall be stopped at a step."""
    return f"{step}-{operation}"


class Saboteur:
    """Holds up each thread that brings a table to its step, until all have come and it is done."""

    def __init__(self, deed: Deed, folder: Path, tables: frozenset[str]) -> None:
        self._deed = deed
        self._folder = folder
        self._tables = tables
        self._missing = set(tables)
        self._lock = threading.Lock()
        self._done = threading.Event()

    @classmethod
    def from_environment(cls) -> Saboteur:
        return cls(
            Deed(os.environ["FAULT"]),
            Path(os.environ["FAULT_FOLDER"]),
            frozenset(os.environ["FAULT_TABLES"].split(",")),
        )

    def reached(self, step: StrEnum, table: str) -> bool:
        """Hold a thread up if it is the first with the table at its step.

        Returns:
            Whether the thread may go on. Not with a second wake-up for a table that is held up
            at its first: threads would run out.
        """
        if self._done.is_set() or table not in self._tables or table.partition("-")[0] != step:
            return True
        with self._lock:
            if table not in self._missing:
                return False
            self._missing.discard(table)
            (self._folder / "missing").write_text(",".join(sorted(self._missing)))
            was_last = not self._missing
        if was_last:
            self._do()
            self._done.set()
        self._done.wait()
        return True

    def _do(self) -> None:
        if self._deed is Deed.WAIT:
            (self._folder / "here").touch()
            while not (self._folder / "go").exists():
                time.sleep(0.005)
        else:
            os.kill(os.getpid(), signal.SIGKILL if self._deed is Deed.KILL else signal.SIGSTOP)


def missing(folder: Path) -> str:
    """Tell which tables have not come to their step yet."""
    told = folder / "missing"
    return f"waiting for {told.read_text()}" if told.exists() else "no table has come to its step"
