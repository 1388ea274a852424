"""Maintenance: what a policy leaves, what live writers notice, and how fast it is beside delta-rs."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from benchmarks.results import Result, compared, limited
from benchmarks.run import PATIENCE, Run, local_lake
from deltaq.client import Client
from deltaq.worker import System

_PARTITIONS = 20
_ROWS = 50
#: Appends that are on their way at once.
_AT_ONCE = 100
#: Seconds after which a table that sleeps has been seen to; see ``maintenance.caretaker``.
_SEEN_TO = 30.0


def maintained(run: Run) -> list[Result]:
    """Append 20,000 times to 20 partitions under the default policy; look at what is left."""
    appends = run.size(20_000, 400)
    with run.place() as place, run.system(place) as system, system.client() as client:
        run.say(f"maintained: {appends} appends")
        early = _append(client, 0, min(appends, 200))
        _append(client, 200, appends - 400)
        late = _append(client, appends - 200, min(appends, 200))
        path = local_lake(system) / "t"
        run.say("maintained: the table falls asleep")
        files = _settled(path)
        opened = _milliseconds(lambda: DeltaTable(path))
        read = _milliseconds(lambda: _filtered(path))
        shutil.copytree(path, place / "fresh")
        DeltaTable(place / "fresh").optimize.compact()
        fresh = _milliseconds(lambda: _filtered(place / "fresh"))
        rows = DeltaTable(path).to_pyarrow_table(columns=["k"]).num_rows
        correct = rows == _ROWS * appends
    notes = f"{appends} appends to {_PARTITIONS} partitions; {rows} rows; opened in {opened:.1f} ms"
    return [
        limited(
            "maintained",
            files / _PARTITIONS,
            unit="files per partition",
            goal=("at most", 3),
            notes=notes,
            correct=correct,
        ),
        compared(
            "maintained",
            read,
            fresh,
            baseline_name="freshly compacted",
            unit="ms filtered read",
            goal=("at most", 2),
            notes=notes,
            correct=correct,
        ),
        compared(
            "maintained",
            late,
            early,
            baseline_name="the first 200 appends",
            unit="ms a commit",
            goal=("at most", 2),
            notes=notes,
            correct=correct,
        ),
    ]


def live_beside(run: Run) -> list[Result]:
    """Append to a table, one after the other, while it is compacted, and while it is not."""
    appends, files = run.size(300, 20), run.size(100, 5)
    with run.place() as place, run.system(place, policy_compact_files=0) as system:
        _scatter(local_lake(system) / "t", files)
        with system.client() as client:
            _append(client, 0, 20)
            idle = statistics.median(_one_by_one(client, appends))
            run.say("live_beside: while the table is compacted")
            optimized = client.optimize("t", zorder="k")
            beside = _one_by_one(client, appends)
            went_on = not optimized.done()
            optimized.result(PATIENCE)
    notes = f"{appends} appends; compacting {'outlasted them' if went_on else 'ended before'}"
    return [
        compared(
            "live_beside",
            statistics.median(beside),
            idle,
            baseline_name="nothing beside",
            unit="ms an append",
            goal=("at most", 2),
            notes=f"{notes}; the longest took {max(beside):.0f} ms",
        )
    ]


def verbs(run: Run) -> list[Result]:
    """Compact, order and vacuum, beside delta-rs on a copy of the same table."""
    found = []
    with run.place() as place, run.system(place, policy_compact_files=0) as system:
        _scatter(place / "scattered", run.size(100, 5))
        for zorder in (None, ["k"]):
            found.append(_optimize(run, system, place, zorder))
        found.append(_vacuum(run, system, place))
    return found


def _optimize(run: Run, system: System, place: Path, zorder: list[str] | None) -> Result:
    name = "zorder" if zorder else "compact"
    ours, theirs = [], []
    with system.client() as client:
        for number in range(run.rounds):
            run.say(f"{name}, round {number + 1} of {run.rounds}")
            table, bare = f"{name}{number}", place / f"{name}{number}"
            for copy in (local_lake(system) / table, bare):
                shutil.copytree(place / "scattered", copy)
            ours.append(_seconds(partial(_ordered, client, table, zorder)))
            optimizer = DeltaTable(bare).optimize
            call = partial(optimizer.z_order, zorder) if zorder else optimizer.compact
            theirs.append(_seconds(call))
    files = len(DeltaTable(place / "scattered").file_uris())
    return compared(
        name,
        statistics.median(ours),
        statistics.median(theirs),
        baseline_name="delta-rs",
        unit="s",
        goal=("at most", 1),
        notes=f"{files} files in {_PARTITIONS} partitions",
    )


def _ordered(client: Client, table: str, zorder: list[str] | None) -> None:
    client.optimize(table, zorder=zorder).result(PATIENCE)


def _vacuum(run: Run, system: System, place: Path) -> Result:
    stale = run.size(100_000, 500)
    run.say(f"vacuum of {stale} files")
    for path in (local_lake(system) / "v", place / "v"):
        write_deltalake(path, _rows(0))
        for number in range(stale):
            (path / f"stale-{number}.parquet").touch()
    with system.client() as client:
        ours = _seconds(lambda: client.vacuum("v", retention_hours=0, force=True).result(PATIENCE))
    bare = DeltaTable(place / "v")
    theirs = _seconds(lambda: bare.vacuum(0, False, enforce_retention_duration=False, full=True))
    left = len(list((local_lake(system) / "v").glob("stale-*")))
    return compared(
        "vacuum",
        ours,
        theirs,
        baseline_name="delta-rs",
        unit="s",
        goal=("at most", 1),
        notes=f"{stale} stale files",
        correct=not left,
    )


def _rows(number: int) -> pa.Table:
    part = f"p{number % _PARTITIONS:02}"
    keys = range(number * _ROWS, (number + 1) * _ROWS)
    return pa.table({"part": [part] * _ROWS, "k": list(keys), "v": [float(k) for k in keys]})


def _append(client: Client, first: int, count: int) -> float:
    """Append to the partitions in turn; return the median time of a commit in milliseconds."""
    taken = []
    for begin in range(first, first + count, _AT_ONCE):
        numbers = range(begin, min(begin + _AT_ONCE, first + count))
        futures = [client.append("t", _rows(number), partition_by=["part"]) for number in numbers]
        taken += [f.result(PATIENCE).commit_seconds or 0.0 for f in futures]
    return 1000 * statistics.median(taken) if taken else 0.0


def _one_by_one(client: Client, count: int) -> list[float]:
    """Append and wait, with a pause as a quiet writer makes; return milliseconds of each."""
    taken = []
    for number in range(count):
        began = time.perf_counter()
        client.append("t", _rows(number)).result(PATIENCE)
        taken.append(1000 * (time.perf_counter() - began))
        time.sleep(0.02)
    return taken


def _scatter(path: Path, commits: int) -> None:
    for number in range(commits):
        made = [_rows(number * _PARTITIONS + part) for part in range(_PARTITIONS)]
        write_deltalake(path, pa.concat_tables(made), mode="append", partition_by=["part"])


def _settled(path: Path) -> int:
    """Wait until the number of a table's files has not changed for a while; return it."""
    files, since = -1, time.monotonic()
    while time.monotonic() - since < _SEEN_TO:
        now = len(DeltaTable(path).file_uris())
        if now != files:
            files, since = now, time.monotonic()
        time.sleep(1)
    return files


def _filtered(path: Path) -> int:
    rows = DeltaTable(path).to_pyarrow_table(filters=[("part", "=", "p07")])
    return int(rows.num_rows)


def _milliseconds(call: Callable[[], object]) -> float:
    return 1000 * statistics.median(_seconds(call) for _ in range(5))


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
