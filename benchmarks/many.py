"""Many writers, one table."""

from __future__ import annotations

import statistics
from itertools import chain, count

from benchmarks.results import Result, compared
from benchmarks.run import PATIENCE, Race, Run, race
from benchmarks.tables import ROWS, Audit, audit, total, version_of
from benchmarks.work import APPEND, MERGE, MERGED_ROWS, Work, append_bare
from benchmarks.writers import bare, clients, queued
from deltaq.tasks.location import Location
from deltaq.worker import System

#: Threads of the bare side; with more of them it gets slower.
_BARE_WRITERS = 10


def append_async_10(run: Run) -> list[Result]:
    """Ten writers that gather their futures at the end."""
    contest = Contest(run, APPEND, writers=10, each=200, waiting=False, bare_each=30)
    return [contest.result("append_async_10", times=25)]


def append_sync_10(run: Run) -> list[Result]:
    """Ten writers that wait for each result."""
    contest = Contest(run, APPEND, writers=10, each=200, waiting=True, bare_each=30)
    return [contest.result("append_sync_10", times=9)]


def append_sync_50(run: Run) -> list[Result]:
    """Fifty writers that wait for each result."""
    contest = Contest(run, APPEND, writers=50, each=40, waiting=True, bare_each=30)
    return [contest.result("append_sync_50", times=18)]


def merge_sync_10(run: Run) -> list[Result]:
    """Ten callers that merge into one table and wait for each result."""
    contest = Contest(run, MERGE, writers=10, each=20, waiting=True, bare_each=20)
    return [contest.result("merge_sync_10", times=30)]


class Contest:
    """Writers with a queue against writers without one; every race is on a table of its own.

    Args:
        run: How to run it.
        work: What the writers do.
        writers: How many use the queue.
        each: How much each of them writes in a race.
        waiting: They have a result before they write again.
        bare_each: How much each writer without a queue writes. Less is in its favour: its
            writes become slower as the table's log grows.
    """

    def __init__(
        self, run: Run, work: Work, *, writers: int, each: int, waiting: bool, bare_each: int
    ) -> None:
        self._run = run
        self._work = work
        self._writers = writers
        self._waiting = waiting
        self._each = run.size(each, 3)
        self._bare_each = run.size(bare_each, 3)
        self._tables = (f"table_{n}" for n in count())
        self._audits: list[Audit] = []
        self._per_commit: list[float] = []

    def result(self, name: str, *, times: float) -> Result:
        """Hold the races and tell how many times as fast the queue is."""
        with self._run.place() as place, self._run.system(place) as system:
            return self.hold(name, system, place, times=times)

    def hold(self, name: str, system: System, place: Location, *, times: float) -> Result:
        """Hold the races in a system and beside it, where there is place for bare tables."""
        merges = self._work is MERGE
        ways = {name: lambda: self.queue_race(system), "bare": lambda: self._theirs(place)}
        races = self._run.rates(ways)
        ours, theirs, found = races[name], races["bare"], self.found
        written = f"{self._writers * self._each} {'merges' if merges else 'appends'}"
        return compared(
            name,
            ours.rate,
            theirs.rate,
            baseline_name=f"bare delta-rs, {_BARE_WRITERS} threads, successes only",
            unit="merges/s" if merges else "appends/s",
            goal=("at least", times),
            notes=f"{self._writers} threads with a client each, {written} of {ROWS} rows"
            f"{f' into {MERGED_ROWS}' if merges else ''}: {found}; "
            f"{statistics.median(self._per_commit):.1f} in a commit; "
            f"bare: {theirs.failed_share} failed",
            correct=found.clean,
        )

    @property
    def found(self) -> Audit:
        """What is in the tables of all races with a queue."""
        return total(self._audits)

    def queue_race(self, system: System) -> Race:
        """Hold one race of writers with a queue."""
        table, work = next(self._tables), self._work
        frames = work.frames(self._writers, self._each)
        with clients(system, self._writers) as made:
            made[0].append(table, work.first()).result(PATIENCE)
            done = race(queued(work, table, made, frames, waiting=self._waiting))
        path = system.settings.lake / table
        self._audits.append(audit(path, chain([work.first()], *frames), failed=done.failed))
        self._per_commit.append(self._writers * self._each / version_of(path))
        return done

    def _theirs(self, place: Location) -> Race:
        table = place / next(self._tables)
        append_bare(table, self._work.first())
        return race(bare(self._work, table, self._work.frames(_BARE_WRITERS, self._bare_each)))
