"""Other shapes of work: small files, a thousand tables, reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import pyarrow as pa

from benchmarks.results import Result, compared, limited
from benchmarks.run import PATIENCE, Race, Run, local_lake, race
from benchmarks.tables import Audit, audit, frame, read_direct, total, version_of
from benchmarks.work import APPEND
from benchmarks.writers import clients, queued, succeeded
from deltaq.client import Client, Future, Outcome
from deltaq.worker import System

_WRITERS = 10
_PARTITIONS = 5
#: Appends to each of the many tables.
_EACH = 5


def small_files(run: Run) -> list[Result]:
    """Many small appends to a partitioned table: how many files and commits they become."""
    each, rows = run.size(200, 5), 100

    def partitioned(writer: int, number: int) -> pa.Table:
        made = frame(writer, number, rows)
        part = pa.array([key % _PARTITIONS for key in range(rows)])
        return made.append_column("part", part)

    frames = [[partitioned(w, n) for n in range(each)] for w in range(1, _WRITERS + 1)]
    with run.place() as place, run.system(place) as system, clients(system, _WRITERS) as made:
        run.say(f"small_files: {_WRITERS * each} appends")

        def write(client: Client, own: Sequence[pa.Table]) -> tuple[int, int]:
            futures = [client.append("small", f, partition_by=["part"]) for f in own]
            done = sum(map(succeeded, futures))
            return done, each - done

        pairs = zip(made, frames, strict=True)
        done = race([partial(write, client, own) for client, own in pairs])
        path = local_lake(system) / "small"
        found = audit(path, [f for own in frames for f in own], failed=done.failed)
        most, commits = _files_per_partition_and_commit(path), version_of(path) + 1
    notes = (
        f"{_WRITERS * each} appends of {rows} rows, {_PARTITIONS} partitions, in "
        f"{done.seconds:.1f} s: {found}"
    )
    return [
        limited(
            "small_files",
            ours,
            unit=unit,
            goal=("at most", most_allowed),
            notes=notes,
            correct=found.clean,
        )
        for ours, unit, most_allowed in (
            (most, "files per partition and commit", 1),
            (commits, "commits", 100),
        )
    ]


def _files_per_partition_and_commit(table: Path) -> int:
    """Find the most files that one commit added to one partition."""
    most = 0
    for entry in (table / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in entry.read_text().splitlines()]
        added = Counter(a["add"]["partitionValues"]["part"] for a in actions if "add" in a)
        most = max(most, *added.values())
    return most


def tables_1000(run: Run) -> list[Result]:
    """Appends to a thousand tables, beside as many writers on one."""
    sides = _ManyTables(run.size(1000, 20), one_table_each=run.size(200, 3))
    with run.place() as place, run.system(place) as system, clients(system, _WRITERS) as made:
        ways = {
            "tables_1000": lambda: sides.many(system, made),
            "append_async_10": lambda: sides.one(system, made),
        }
        races = run.rates(ways)
    found = total(sides.audits)
    notes = f"{_WRITERS} writers, {_EACH} rounds over {sides.tables} tables: {found}"
    return [
        compared(
            "tables_1000",
            races["tables_1000"].rate,
            races["append_async_10"].rate,
            baseline_name="append_async_10 of deltaq",
            unit="appends/s",
            goal=("at least", 0.5),
            notes=notes,
            correct=found.clean,
        ),
        limited(
            "tables_1000",
            sides.longest,
            unit="s",
            goal=("at most", 10),
            notes=f"longest time from submit to result; {notes}",
            correct=found.clean,
        ),
    ]


class _ManyTables:
    """The same appends to many tables and to one."""

    def __init__(self, tables: int, *, one_table_each: int) -> None:
        self.tables = tables
        #: Seconds from submit to commit of the request that took longest.
        self.longest = 0.0
        self.audits: list[Audit] = []
        self._one_table_each = one_table_each
        self._races = count()

    def many(self, system: System, made: Sequence[Client]) -> Race:
        """Each writer appends to its share of the tables, one after another, and again."""
        name = f"many_{next(self._races)}"
        each = self.tables // _WRITERS
        rows = [frame(1, n) for n in range(_EACH)]

        def write(client: Client, writer: int) -> tuple[int, int]:
            tables = [f"{name}_{writer}_{n}" for n in range(each)]
            return self._gather([client.append(t, f) for f in rows for t in tables])

        done = race([partial(write, client, writer) for writer, client in enumerate(made)])
        for table in system.settings.lake.glob(f"{name}_*"):
            self.audits.append(audit(table, rows))
        self.audits.append(Audit(failed=done.failed, lost=0, doubled=0))
        return done

    def one(self, system: System, made: Sequence[Client]) -> Race:
        """All writers append to one table."""
        name = f"one_{next(self._races)}"
        made[0].append(name, APPEND.first()).result(PATIENCE)
        frames = APPEND.frames(_WRITERS, self._one_table_each)
        return race(queued(APPEND, name, made, frames, waiting=False))

    def _gather(self, futures: list[Future[Outcome]]) -> tuple[int, int]:
        done = sum(map(succeeded, futures))
        outcomes = [f.result() for f in futures if f.exception() is None]
        took = [(o.waited_seconds or 0.0) + (o.commit_seconds or 0.0) for o in outcomes]
        self.longest = max(self.longest, *took)
        return done, len(futures) - done


def read(run: Run) -> list[Result]:
    """Read a table through a worker, beside reading it with delta-rs."""
    rows, times = 200_000, run.size(21, 3)
    with run.place() as place, run.system(place) as system, clients(system, 1) as (client,):
        client.append("read", frame(0, 0, rows)).result(PATIENCE)
        path = system.settings.lake / "read"
        ways: dict[str, Callable[[], object]] = {
            "read": lambda: client.read("read").result(PATIENCE),
            "direct": lambda: read_direct(path),
        }
        medians = run.milliseconds(ways, times=times, warm_up=3)
        same = client.read("read").result(PATIENCE).sort_by("key") == read_direct(path).sort_by(
            "key"
        )
    return [
        compared(
            "read",
            medians["read"],
            medians["direct"],
            baseline_name="a direct delta-rs read, which opens its table",
            unit="ms",
            goal=("at most", 2),
            notes=f"{times} in turns, {rows} rows x 4 columns; the same rows: {same}",
            correct=same,
        )
    ]
