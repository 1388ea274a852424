"""The two kinds of writers: through the queue, and straight to the table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pyarrow as pa
from deltalake.exceptions import DeltaError

from benchmarks.run import PATIENCE
from benchmarks.work import Work
from deltaq.client import Client, DeltaqError, Future, Outcome
from deltaq.tasks.location import Location
from deltaq.worker import System

#: What a race runs in a thread; how many writes succeeded, how many failed.
Writer = Callable[[], tuple[int, int]]


@contextlib.contextmanager
def clients(system: System, count: int) -> Iterator[list[Client]]:
    """Make clients that share nothing, each connected and with its first request behind it."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(system.client()) for _ in range(count)]
        for future in [client.append("warm_up", pa.table({"n": [1]})) for client in made]:
            future.result(PATIENCE)
        yield made


def queued(
    work: Work,
    table: str,
    made: Sequence[Client],
    frames: Sequence[Sequence[pa.Table]],
    *,
    waiting: bool,
) -> list[Writer]:
    """Make writers with a client each.

    Args:
        work: What they do.
        table: To which table.
        made: The clients.
        frames: What each writes.
        waiting: A writer has a result before it writes again; else it gathers them at the end.
    """

    def write(client: Client, own: Sequence[pa.Table]) -> tuple[int, int]:
        if waiting:
            done = sum(succeeded(work.submit(client, table, frame)) for frame in own)
        else:
            done = sum(map(succeeded, [work.submit(client, table, frame) for frame in own]))
        return done, len(own) - done

    return [partial(write, client, own) for client, own in zip(made, frames, strict=True)]


def bare(work: Work, table: Location, frames: Sequence[Sequence[pa.Table]]) -> list[Writer]:
    """Make writers that use delta-rs and take a failed write for what it is."""

    def write(own: Sequence[pa.Table]) -> tuple[int, int]:
        done = 0
        for frame in own:
            with contextlib.suppress(DeltaError):
                work.bare(table, frame)
                done += 1
        return done, len(own) - done

    return [partial(write, own) for own in frames]


def succeeded(future: Future[Outcome]) -> bool:
    """Wait for a future and tell whether its request was committed."""
    try:
        future.result(PATIENCE)
    except DeltaqError:
        return False
    return True
