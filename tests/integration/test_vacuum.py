"""What a vacuum leaves alone, with readers that read while it runs."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from deltaq.client import Client
from deltaq.tasks import keys
from deltaq.tasks.errors import TransientError
from deltaq.tasks.query import Read
from deltaq.tasks.request import Vacuum, new_request_id
from deltaq.tasks.settings import Settings
from deltaq.worker.engines import native_maintenance
from deltaq.worker.lake import Lake
from deltaq.worker.maintenance import slicing
from deltaq.worker.maintenance.open_reads import OpenReads
from tests.support.bench import Bench
from tests.support.paths import as_path
from tests.support.requests import CLIENT_ID
from tests.support.twins import Twins
from tests.support.waiting import wait_until

DAY = 86400


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    bench = Bench(settings)
    yield bench
    bench.close()


class SlowParts:
    """Where a scan goes whose client takes nothing until it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.rows = 0
        self.begun, self.go_on = threading.Event(), threading.Event()

    def write(self, batch: pa.RecordBatch) -> None:
        self.begun.set()
        assert self.go_on.wait(20)
        self.rows += batch.num_rows

    def flush(self, schema: pa.Schema) -> None: ...

    def take(self, file: Path, *, suffix: str, rows: int) -> None: ...


class Reading:
    """A scan of the bench's table that has begun and does not end before it is told to."""

    def __init__(self, bench: Bench, **query: Any) -> None:
        self._parts, self._errors = SlowParts(), list[BaseException]()
        asked = Read(request_id=new_request_id(), client_id=CLIENT_ID, table="t", **query)
        self._thread = threading.Thread(target=self._scan, args=(bench, asked))

    def __enter__(self) -> Reading:
        self._thread.start()
        assert self._parts.begun.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.go_on.set()
        self._thread.join()

    def _scan(self, bench: Bench, query: Read) -> None:
        try:
            bench.router.scan(query, self._parts)
        except BaseException as exc:
            self._errors.append(exc)

    def rows(self) -> int:
        """Let it go on to its end; how many rows it read."""
        self.__exit__()
        assert self._errors == []
        return self._parts.rows


def write(bench: Bench, commits: int, *, mode: str = "append") -> None:
    for n in range(commits):
        rows = pa.table({"k": range(n * 10, n * 10 + 10)})
        write_deltalake(str(bench.settings.lake / "t"), rows, mode=mode)  # type: ignore[call-overload]


def vacuum(bench: Bench, client: Client, **options: Any) -> Any:
    future = client.vacuum("t", **{"retention_hours": 0, "force": True, **options})
    bench.committer.drain("t")
    return future.result(5).value


def data_files(bench: Bench) -> int:
    return len(list((bench.settings.lake / "t").glob("*.parquet")))


@pytest.mark.parametrize("asked", ["newest", "version", "time"])
def test_a_read_that_runs_keeps_its_files(bench: Bench, client: Client, asked: str) -> None:
    write(bench, 20)
    now = datetime.now(UTC).isoformat()
    began = time.time()
    wait_until(lambda: int(time.time()) > int(began))  # S3 tells times in whole seconds
    if asked != "newest":
        write(bench, 1, mode="overwrite")
    queries: dict[str, Any] = {
        "newest": {},
        "version": {"version": 19},
        "time": {"timestamp": now},
    }
    query = queries[asked]

    with Reading(bench, **query) as reading:
        if asked == "newest":
            write(bench, 1, mode="overwrite")
        assert vacuum(bench, client, dry_run=True)["files"] == 0
        vacuum(bench, client)
        assert data_files(bench) == 21
        assert reading.rows() == 200

    assert bench.redis.exists(keys.open_reads("t")) == 0
    vacuum(bench, client)
    assert data_files(bench) == 1


@pytest.mark.parametrize("zorder", [None, "k"])
def test_readers_of_old_and_new_versions_go_on_while_a_table_is_optimized(
    bench: Bench, client: Client, zorder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slicing, "_PACK_FILES", 3)
    monkeypatch.setattr(slicing, "_BIN_FILES", 3)
    write(bench, 8)

    with Reading(bench, version=4) as old, Reading(bench) as new:
        client.optimize("t", zorder=zorder).add_done_callback(lambda _: None)
        bench.committer.drain("t")
        vacuum(bench, client)  # of all that no reader needs
        assert (old.rows(), new.rows()) == (50, 80)

    path = as_path(bench.settings.lake) / "t"
    vacuum(bench, client, retention_hours=168, force=False)
    # What the retention covers can be read, before and after the rows were written again.
    versions = range(DeltaTable(str(path)).version() + 1)
    rows = [DeltaTable(str(path), version=v).to_pyarrow_table().num_rows for v in versions]
    assert rows[:8] == [*range(10, 90, 10)]
    assert set(rows[8:]) == {80}
    vacuum(bench, client)
    assert data_files(bench) == len(DeltaTable(str(path)).file_uris())


def test_a_read_whose_worker_died_is_believed_for_a_minute(
    bench: Bench, client: Client, settings: Settings
) -> None:
    write(bench, 3)
    write(bench, 1, mode="overwrite")
    dead = OpenReads(bench.redis, Lake(settings.lake))
    held = dead.hold(["t"], version=2)
    held.__enter__()

    vacuum(bench, client)
    assert data_files(bench) == 4
    members: Any = bench.redis.zrange(keys.open_reads("t"), 0, -1)
    bench.redis.zadd(keys.open_reads("t"), {members[0]: time.time() - 1})
    vacuum(bench, client)

    assert data_files(bench) == 1
    dead.close()


@pytest.mark.timeout(300)
def test_spark_waits_for_reads_of_versions_that_it_could_not_keep(
    twins: Twins,
) -> None:
    twins.spark.append(pa.table({"k": [1]}))
    request = twins.spark.stage(Vacuum, retention_hours=0, force=True)
    group = twins.spark.group(request)
    with pytest.raises(TransientError, match="versions 3, 4 are being read"):
        twins.spark.engine.apply(replace(group, read_versions=(3, 4)))


@pytest.mark.on_disk("sets the times of files")
def test_a_version_that_is_to_be_kept_longer_than_the_log_remembers_its_files_can_be_read(
    bench: Bench, client: Client
) -> None:
    write(bench, 3)
    write(bench, 1, mode="overwrite")
    path = as_path(bench.settings.lake) / "t"
    long_ago = time.time() - 60 * DAY
    # Written long ago, and removed from the table a little later than the log remembers.
    for file in path.glob("*.parquet"):
        os.utime(file, (long_ago, long_ago))
    entry = path / "_delta_log" / f"{3:020d}.json"
    removed = int((time.time() - 10 * DAY) * 1000)
    text = entry.read_text()
    entry.write_text(re.sub(r'"deletionTimestamp":\d+', f'"deletionTimestamp":{removed}', text))
    DeltaTable(str(path)).create_checkpoint()

    told = vacuum(bench, client, retention_hours=30 * 24, force=False, dry_run=True)
    assert told["files"] == 0
    vacuum(bench, client, retention_hours=30 * 24, force=False)
    assert DeltaTable(str(path), version=2).to_pyarrow_table().num_rows == 30

    vacuum(bench, client, retention_hours=168, force=False)
    assert data_files(bench) == 1


def test_many_files_are_removed_in_slices_and_how_far_it_came_is_told(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bench, 1)
    folder = bench.settings.lake / "t"
    for n in range(30):
        (folder / f"stray-{n}.parquet").touch()
    monkeypatch.setattr(native_maintenance, "SLICE_SECONDS", 0)
    monkeypatch.setattr(native_maintenance, "_REMOVED_AT_ONCE", 10)
    told = []
    put_down = bench.inbox.put_down

    def note(*args: Any, **options: Any) -> None:
        told.append((args[2].operation, args[2].done, args[2].total))
        put_down(*args, **options)

    bench.inbox.put_down = note  # type: ignore[method-assign]
    vacuum(bench, client)

    assert told == [("vacuum", 10, 30), ("vacuum", 20, 30)]
    assert data_files(bench) == 1


def test_what_a_restore_brings_back_between_two_slices_is_not_removed(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bench, 3)
    write(bench, 1, mode="overwrite")
    monkeypatch.setattr(native_maintenance, "SLICE_SECONDS", 0)
    monkeypatch.setattr(native_maintenance, "_REMOVED_AT_ONCE", 1)
    path = as_path(bench.settings.lake) / "t"
    put_down, brought_back = bench.inbox.put_down, set[str]()

    def restore_meanwhile(*args: Any, **options: Any) -> None:
        put_down(*args, **options)
        if args[2].done == 1:
            # One of the three is gone already: whoever restores is told, or does not mind.
            brought_back.update(file.name for file in path.glob("*.parquet"))
            DeltaTable(str(path)).restore(2, ignore_missing_files=True)

    bench.inbox.put_down = restore_meanwhile  # type: ignore[method-assign]
    vacuum(bench, client)

    assert len(brought_back) == 3
    needed = {uri.rpartition("/")[2] for uri in DeltaTable(str(path)).file_uris()}
    assert brought_back & needed
    assert brought_back & needed <= {file.name for file in path.glob("*.parquet")}
