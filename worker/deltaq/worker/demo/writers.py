"""Ten processes that append frames at the same time, as programs of ten people would."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue

import pyarrow as pa

from deltaq.client import Client, Outcome

#: Seconds that a writer waits for its next outcome.
_PATIENCE = 300.0


@dataclass(frozen=True, kw_only=True)
class Part:
    """A frame to append: a piece of a table that lies in an Arrow file."""

    table: str
    file: Path
    offset: int
    length: int

    def load(self) -> pa.Table:
        """Read the frame; the file is mapped into memory, not copied."""
        with pa.memory_map(str(self.file)) as source:
            return pa.ipc.open_file(source).read_all().slice(self.offset, self.length)


@dataclass(frozen=True, kw_only=True)
class Written:
    """One append as its writer saw it; times are seconds of ``time.time()``."""

    table: str
    request_id: str
    rows: int
    version: int | None
    #: Just before append() was called, when it returned, and when the outcome was there.
    called: float
    submitted: float
    resolved: float


class WriterDied(Exception):
    """A writer process ended before its work was done; it said why on standard error."""


def run_writers(
    parts: Sequence[Part],
    *,
    count: int,
    env: Mapping[str, str],
    on_written: Callable[[Written], None],
) -> None:
    """Append all parts from ``count`` processes and return when each has its outcome.

    No process is left when this returns or raises.

    Args:
        parts: What to append; dealt to the writers in turns.
        count: How many processes.
        env: The DELTAQ_* variables that lead to the queue.
        on_written: Called with each append as it is heard of.

    Raises:
        WriterDied: An append failed.
    """
    # Spawned, not forked: threads and connections of this process stay here.
    context = multiprocessing.get_context("spawn")
    writers: dict[Connection, multiprocessing.context.SpawnProcess] = {}
    try:
        with _sigint_blocked():  # as a whole: each writer that starts is one that we know
            for number in range(count):
                receiver, sender = context.Pipe(duplex=False)
                writer = context.Process(
                    target=_write, args=(parts[number::count], dict(env), sender), daemon=True
                )
                writer.start()
                sender.close()  # so that the pipe ends when the writer does
                writers[receiver] = writer
        _listen(writers, on_written)
    finally:
        for receiver, writer in writers.items():
            receiver.close()
            writer.terminate()
            writer.join()


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Start processes that Ctrl-C, which reaches all of a terminal, does not end: we do."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(
    writers: Mapping[Connection, multiprocessing.context.SpawnProcess],
    on_written: Callable[[Written], None],
) -> None:
    running = set(writers)
    while running:
        for ready in wait(list(running)):
            assert isinstance(ready, Connection)
            try:
                on_written(ready.recv())
            except EOFError:
                running.remove(ready)
                writers[ready].join()
                if writers[ready].exitcode != 0:
                    raise WriterDied("a writer process failed; see its traceback above") from None


def _write(parts: Sequence[Part], env: Mapping[str, str], reports: Connection) -> None:
    os.environ.update(env)
    resolved: SimpleQueue[tuple[Future[Outcome], float]] = SimpleQueue()
    sent: dict[Future[Outcome], tuple[Part, float, float]] = {}
    with Client() as client:
        for part in parts:
            frame = part.load()
            called = time.time()
            future = client.append(part.table, frame)
            sent[future] = (part, called, time.time())
            future.add_done_callback(lambda future: resolved.put((future, time.time())))
        for _ in parts:
            done, when = resolved.get(timeout=_PATIENCE)
            part, called, submitted = sent[done]
            outcome = done.result()
            reports.send(
                Written(
                    table=part.table,
                    request_id=outcome.request_id,
                    rows=part.length,
                    version=outcome.version,
                    called=called,
                    submitted=submitted,
                    resolved=when,
                )
            )
