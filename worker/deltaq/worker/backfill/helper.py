"""What prepares parts for a worker: a process of its own, or the executors of Spark."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Sequence
from typing import Protocol

import msgspec

from deltaq.worker.backfill.preparing import Answer, Job
from deltaq.worker.processes import Spawner


class HelperDied(Exception):
    """The process ended in the middle of a job; the message says how."""


class Helper(Protocol):
    """Prepares some parts at a time, out of the worker's way. Used by one thread."""

    #: Parts that it takes at once.
    room: int

    def begin(self, jobs: Sequence[Job]) -> None:
        """Have parts prepared; ask :meth:`answer` what came of each.

        Raises:
            HelperDied: They cannot be now.
        """
        ...

    def answer(self, timeout: float) -> Answer | None:
        """Wait for what came of a part; None if none is done within ``timeout`` seconds.

        Raises:
            HelperDied: No more will be done.
        """
        ...

    def stop(self) -> None:
        """End what is being done; the next parts may be begun at once."""
        ...


class Process:
    """One process, started when there is a part; see :class:`Helper`."""

    room = 1

    def __init__(self) -> None:
        self._spawner = Spawner()
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, jobs: Sequence[Job]) -> None:
        """Hand parts over."""
        if self._process is None:
            self._process = self._spawner.spawn(
                [sys.executable, "-m", "deltaq.worker.backfill.child"], pipes=True
            )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"".join(msgspec.json.encode(job) + b"\n" for job in jobs))
            self._process.stdin.flush()
        except OSError as exc:
            raise self._died() from exc

    def answer(self, timeout: float) -> Answer | None:
        """Wait for what came of a part."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], timeout)[0]:
            return None
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._died()
        return msgspec.json.decode(line, type=Answer)

    def stop(self) -> None:
        """End the process, whatever it does; the next part starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with process:
            process.wait()

    def close(self) -> None:
        """End the process for good."""
        self.stop()
        self._spawner.close()

    def _died(self) -> HelperDied:
        process = self._process
        assert process is not None
        self.stop()
        return HelperDied(f"the process that prepares parts ended with {process.returncode}")
