"""Two processes that commit to one table at the same moment, as if there were no lease."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.request import EngineName
from deltaq.tasks.settings import load_settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines import Engine
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.native_change import Change
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.engines.transaction import Transactions
from deltaq.worker.groups import CommitGroup
from deltaq.worker.lake import Lake
from deltaq.worker.warm import WarmSpark

#: Seconds for anything a process may be asked; a start of Spark is the longest.
_ANSWER_WITHIN = 240.0
_HELD = "held"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A group to commit; ``held`` stops right before the commit until told to go on."""

    engine: EngineName
    group: CommitGroup
    held: bool


class Racer:
    """The test's end of one of the processes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, attempt: Attempt) -> None:
        """Have a group committed; :meth:`answer` tells what came of it."""
        self._connection.send(attempt)

    def wait_until_held(self) -> None:
        """Return when the process has all but the commit behind it."""
        told = self._receive()
        assert told == _HELD, f"it did not reach its commit: {told}"

    def let_go(self, delay: float) -> None:
        """Have it commit after so many seconds, which shift the contenders against each other."""
        self._connection.send(delay)

    def answer(self) -> int | DeltaqError:
        """Return the version that was committed, or the error that was raised."""
        told: int | DeltaqError = self._receive()
        return told

    def _receive(self) -> Any:
        assert self._connection.poll(_ANSWER_WITHIN), "the process does not answer"
        return self._connection.recv()


@contextmanager
def racers(root: Path) -> Iterator[tuple[Racer, Racer]]:
    """Run two processes on one lake; each has both engines, its JVM started when first used."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(2)]
    processes = [context.Process(target=_run, args=(theirs, root)) for _, theirs in pipes]
    for process in processes:
        process.start()
    for _, theirs in pipes:
        theirs.close()  # so that the end of a process is seen as an end of file
    try:
        yield Racer(pipes[0][0]), Racer(pipes[1][0])
    finally:
        for ours, _ in pipes:
            ours.close()
        for process in processes:
            process.join(30)
            process.kill()


def _run(connection: Connection, root: Path) -> None:
    warm = WarmSpark(load_settings(lake=root))
    gate = _Gate(connection)
    engines = _engines(warm, root)
    try:
        while True:
            attempt: Attempt = connection.recv()
            if attempt.engine == "spark":
                warm.start()
                warm.session(_ANSWER_WITHIN)
            gate.closed = attempt.held
            try:
                connection.send(engines[attempt.engine].apply(attempt.group).version)
            except DeltaqError as exc:
                connection.send(exc)
    except EOFError:
        pass
    finally:
        warm.stop()


def _engines(warm: WarmSpark, root: Path) -> dict[EngineName, Engine]:
    lake, staging = Lake(root), StagingArea(root / ".deltaq")
    return {
        "native": NativeEngine(lake, staging),
        "spark": SparkEngine(warm, lake, staging),
    }


class _Gate:
    """Stops each engine at the last step of ours before its commit."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.closed = False
        prepare, watched = Transactions._prepare, Change._watched

        def prepare_and_wait(transactions: Transactions, actions: Any) -> Any:
            actions = prepare(transactions, actions)
            self.wait()
            return actions

        def watch_and_wait(change: Change, batches: Iterable[Any]) -> Iterator[Any]:
            yield from watched(change, batches)
            self.wait()  # delta-rs has all rows now

        # Only in this process, which is ours.
        Transactions._prepare = prepare_and_wait  # type: ignore[assignment, method-assign]
        Change._watched = watch_and_wait  # type: ignore[assignment, method-assign]

    def wait(self) -> None:
        if self.closed:
            self.closed = False
            self._connection.send(_HELD)
            time.sleep(self._connection.recv())
