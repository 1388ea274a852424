"""Maintenance: what a policy leaves, what live writers notice, and how fast it is beside delta-rs."""

from __future__ import annotations

import shutil
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

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
#: Seconds in which a worker writes the checkpoint that follows a commit.
_AFTERWARDS = 1.0
_MIB = 1 << 20


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
        shutil.copytree(path, place / "fresh")
        DeltaTable(place / "fresh").optimize.compact()
        took = run.milliseconds(
            {
                "kept": lambda: _filtered(path),
                "fresh": lambda: _filtered(place / "fresh"),
                "opened": lambda: DeltaTable(path),
            },
            times=run.size(50, 5),
            warm_up=5,
        )
        rows = DeltaTable(path).to_pyarrow_table(columns=["k"]).num_rows
        correct = rows == _ROWS * appends
    notes = f"{appends} appends to {_PARTITIONS} partitions; {rows} rows; "
    notes += f"opened in {took['opened']:.1f} ms"
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
            "maintained_read",
            took["kept"],
            took["fresh"],
            baseline_name="freshly compacted",
            unit="ms filtered read",
            goal=("at most", 2),
            notes=notes,
            correct=correct,
        ),
        compared(
            "maintained_commit",
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
    """Append to a table, one after the other, while it is ordered again and again, and while not."""
    appends, files = run.size(300, 20), run.size(100, 5)
    with run.place() as place, run.system(place, policy_compact_files=0) as system:
        _scatter(local_lake(system) / "t", files)
        with system.client() as client:
            _append(client, 0, 20)
            idle = _one_by_one(client, appends)
            run.say("live_beside: while the table is ordered")
            with _Ordered(client, "t") as ordered:
                beside = _one_by_one(client, appends)
    notes = (
        f"{appends} appends while the table was ordered {ordered.times} times; the longest took "
    )
    return [
        compared(
            "live_beside",
            statistics.median(beside),
            statistics.median(idle),
            baseline_name="nothing beside",
            unit="ms an append",
            goal=("at most", 2),
            notes=f"{notes}{max(beside):.0f} ms, with nothing beside {max(idle):.0f} ms",
            correct=ordered.times > 0,
        )
    ]


class _Ordered:
    """Has a table ordered again and again, in a thread, until it is left."""

    def __init__(self, client: Client, table: str) -> None:
        self.times = 0
        self._client = client
        self._table = table
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._order)

    def __enter__(self) -> _Ordered:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def _order(self) -> None:
        while not self._left.is_set():
            self._client.optimize(self._table, zorder="k").result(PATIENCE)
            self.times += 1


def verbs(run: Run) -> list[Result]:
    """Compact, order and vacuum, beside delta-rs on a copy of the same table."""
    with run.place() as place, run.system(place, policy_compact_files=0) as system:
        _scatter(place / "scattered", run.size(100, 5), rows=run.size(1000, _ROWS))
        _heap(place / "heap", run.size(16, 2))
        return [
            _optimize(run, system, place, "compact", "scattered"),
            _optimize(run, system, place, "compact_large", "heap"),
            _optimize(run, system, place, "zorder", "scattered", zorder=["k"]),
            _vacuum(run, system, place),
        ]


def _optimize(
    run: Run, system: System, place: Path, name: str, of: str, *, zorder: list[str] | None = None
) -> Result:
    took: dict[str, list[float]] = {"ours": [], "theirs": []}
    with system.client() as client:
        for number in range(run.rounds + 1):
            run.say(f"{name}, round {number} of {run.rounds}")
            table, bare = f"{name}{number}", place / f"{name}{number}"
            for copy in (local_lake(system) / table, bare):
                shutil.copytree(place / of, copy)
            ways = {
                "ours": partial(_ordered, client, table, zorder),
                "theirs": partial(_ordered_by_delta_rs, bare, zorder),
            }
            for side in list(ways)[:: -1 if number % 2 else 1]:
                seconds = _seconds(ways[side])
                if number:  # the first turn is to warm up
                    took[side].append(seconds)
                time.sleep(_AFTERWARDS)
            for copy in (local_lake(system) / table, bare):
                shutil.rmtree(copy)
    sizes = _sizes(place / of)
    return compared(
        name,
        statistics.median(took["ours"]),
        statistics.median(took["theirs"]),
        baseline_name="delta-rs",
        unit="s",
        goal=("at most", 1),
        notes=f"{len(sizes)} files of {sum(sizes) / _MIB:.0f} MiB in all; "
        f"the worker held {_peak_mib(system)} MiB at most",
    )


def _ordered(client: Client, table: str, zorder: list[str] | None) -> None:
    client.optimize(table, zorder=zorder).result(PATIENCE)


def _ordered_by_delta_rs(path: Path, zorder: list[str] | None) -> None:
    optimizer = DeltaTable(path).optimize
    if zorder:
        optimizer.z_order(zorder)
    else:
        optimizer.compact()


def _vacuum(run: Run, system: System, place: Path) -> Result:
    stale = run.size(100_000, 500)
    run.say(f"vacuum of {stale} files")
    for path in (local_lake(system) / "v", place / "v"):
        write_deltalake(path, _rows(0))
        for number in range(stale):
            (path / f"stale-{number}.parquet").touch()
    before = _peak_mib(system)
    with system.client() as client:
        ours = _seconds(lambda: client.vacuum("v", retention_hours=0, force=True).result(PATIENCE))
    theirs = _seconds(lambda: _vacuumed_by_delta_rs(place / "v"))
    left = len(list((local_lake(system) / "v").glob("stale-*")))
    return compared(
        "vacuum",
        ours,
        theirs,
        baseline_name="delta-rs",
        unit="s",
        goal=("at most", 1),
        notes=f"{stale} stale files; the worker held {before} MiB at most before, "
        f"{_peak_mib(system)} MiB after",
        correct=not left,
    )


def _vacuumed_by_delta_rs(path: Path) -> None:
    DeltaTable(path).vacuum(0, False, enforce_retention_duration=False, full=True)


def _peak_mib(system: System) -> int:
    """Tell the most memory that the worker has held, as the kernel counts it."""
    status = Path(f"/proc/{system.worker_pids[0]}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kib) // 1024


def _sizes(path: Path) -> list[int]:
    sizes: list[int] = pa.table(DeltaTable(path).get_add_actions())["size_bytes"].to_pylist()
    return sizes


def _rows(number: int, count: int = _ROWS) -> pa.Table:
    part = f"p{number % _PARTITIONS:02}"
    keys = pa.array(range(number * count, (number + 1) * count))
    return pa.table({"part": [part] * count, "k": keys, "v": keys.cast(pa.float64())})


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


def _scatter(path: Path, commits: int, rows: int = _ROWS) -> None:
    """Write a file into each partition with each commit."""
    for number in range(commits):
        made = [_rows(number * _PARTITIONS + part, rows) for part in range(_PARTITIONS)]
        write_deltalake(path, pa.concat_tables(made), mode="append", partition_by=["part"])


def _heap(path: Path, files: int) -> None:
    """Write files of 8 MiB, without partitions: what is too large for one slice."""
    random = Random(7)
    for _ in range(files):
        prices = pa.array([random.random() for _ in range(1 << 20)])
        write_deltalake(path, pa.table({"price": prices}), mode="append")


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


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
