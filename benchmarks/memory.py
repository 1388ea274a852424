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
from benchmarks.writers import clients
from deltaq.client import Client, Outcome

_WRITERS = 10
_MIB = 1 << 20
#: Parts that the run is cut into; the first is for warming up, and ends of it are compared.
_PARTS = 10


def memory(run: Run) -> list[Result]:
    """Append 20,000 times to one table, watching the worker."""
    each = run.size(2000, 20)
    frames = APPEND.frames(_WRITERS, each)
    with run.place() as place, run.system(place) as system, clients(system, _WRITERS) as made:
        run.say(f"memory: {_WRITERS * each} appends by writers that wait")
        outcomes: list[Outcome] = []
        with _Watch(system.worker_pids[0]) as watch:
            pairs = zip(made, frames, strict=True)
            done = race([partial(_write, client, own, outcomes) for client, own in pairs])
        path = system.settings.lake / "long"
        found = audit(path, [f for own in frames for f in own], failed=done.failed)
        commits = version_of(path) + 1
    early, late = _ends(watch.rss_bytes)
    quick, slow = _ends(_commit_seconds(outcomes))
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
            1000 * slow,
            1000 * quick,
            baseline_name="the same after a tenth of them",
            unit="ms",
            goal=("at most", 1.2),
            notes=f"median commit in the last tenth; {notes}",
            correct=found.clean,
        ),
    ]


def _write(client: Client, frames: Sequence[pa.Table], outcomes: list[Outcome]) -> tuple[int, int]:
    for frame in frames:
        outcomes.append(client.append("long", frame).result(PATIENCE))
    return len(frames), 0


def _commit_seconds(outcomes: Sequence[Outcome]) -> list[float]:
    """List how long each commit took, in order."""
    by_version = {outcome.version: outcome.commit_seconds for outcome in outcomes}
    return [by_version[version] or 0.0 for version in sorted(v for v in by_version if v)]


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
