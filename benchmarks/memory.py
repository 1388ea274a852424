"""A table that is appended to for long: the worker's memory, and what a long log costs."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Sequence
from functools import partial

import psutil
import pyarrow as pa

from benchmarks.results import Result, compared, limited
from benchmarks.run import PATIENCE, Run, race
from benchmarks.tables import audit, version_of
from benchmarks.work import APPEND
from benchmarks.writers import clients, succeeded
from deltaq.client import Client

_WRITERS = 10
_MIB = 1 << 20
#: Parts that the watch is cut into; the first is for warming up.
_PARTS = 10


def memory(run: Run) -> list[Result]:
    """Append 20,000 times to one table, watching the worker."""
    each = run.size(2000, 20)
    frames = APPEND.frames(_WRITERS, each)
    with run.place() as place, run.system(place) as system, clients(system, _WRITERS) as made:
        run.say(f"memory: {_WRITERS * each} appends by writers that wait")
        with _Watch(system.worker_pids[0]) as watch:
            pairs = zip(made, frames, strict=True)
            done = race([partial(_write, client, own) for client, own in pairs])
        path = system.settings.lake / "long"
        found = audit(path, [f for own in frames for f in own], failed=done.failed)
        commits = version_of(path) + 1
        turns = run.size(60, 3)
        run.say(f"memory: {turns} more, in turns with a new table")
        long, short = _commit_milliseconds(made[0], ["long", "short"], turns)
    early, late = _ends(watch.rss_bytes)
    notes = f"{done.done} appends in {commits} commits, {done.rate:.0f}/s: {found}"
    return [
        limited(
            "memory",
            (late - early) / _MIB,
            unit="MiB more",
            goal=("at most", 50),
            notes=f"worker {early / _MIB:.0f} MiB after a tenth, {late / _MIB:.0f} at the end; "
            f"{notes}",
            correct=found.clean,
        ),
        compared(
            "memory",
            long,
            short,
            baseline_name="a commit to a new table",
            unit="ms",
            goal=("at most", 1.2),
            notes=f"a commit after them, {turns} in turns; {notes}",
            correct=found.clean,
        ),
    ]


def _write(client: Client, frames: Sequence[pa.Table]) -> tuple[int, int]:
    done = sum(succeeded(client.append("long", frame)) for frame in frames)
    return done, len(frames) - done


def _commit_milliseconds(client: Client, tables: Sequence[str], turns: int) -> list[float]:
    """Append to tables in turns; return the median time of a commit to each."""
    taken: dict[str, list[float]] = {table: [] for table in tables}
    for number in range(turns):
        for table in tables:
            outcome = client.append(table, APPEND.frame(0, number)).result(PATIENCE)
            taken[table].append(1000 * (outcome.commit_seconds or 0.0))
    return [statistics.median(found) for found in taken.values()]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the second and the last tenth."""
    part = max(1, len(values) // _PARTS)
    return statistics.median(values[part : 2 * part]), statistics.median(values[-part:])


class _Watch:
    """Looks at a process's memory every now and then, in a thread."""

    def __init__(self, pid: int) -> None:
        self.rss_bytes: list[float] = []
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            self.rss_bytes.append(self._process.memory_info().rss)
