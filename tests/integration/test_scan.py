"""Scans: more rows than anybody wants in memory, part by part."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deltaq.client import (
    AsyncClient,
    Client,
    EngineDied,
    EngineUnavailable,
    InvalidExpression,
    RequestCancelled,
    RequestExpired,
    ResultTimeout,
    TableNotFound,
)
from deltaq.tasks.location import Location, source_of
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker import scans
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.lake import Lake
from tests.support.applying import Applier
from tests.support.places import files_in, on_disk
from tests.support.reading import ReadingWorker
from tests.support.waiting import wait_until

ROWS = 400_000


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "_PART_BYTES", 100_000)


@pytest.fixture
def client(settings: Settings, worker: ReadingWorker) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def numbers(settings: Settings) -> Applier:
    """A table of some forty parts."""
    engine = NativeEngine(Lake(settings.lake), StagingArea(settings.staging_root))
    table = Applier(engine, settings.lake, "numbers")
    table.append(pa.table({"n": range(ROWS)}))
    return table


def results(settings: Settings) -> list[Location]:
    return files_in(settings.staging_root / "reads")


def unread(settings: Settings) -> int:
    return sum(file.name.startswith("part-") for file in results(settings))


def test_all_rows_come_in_batches_and_nothing_is_left(
    client: Client, settings: Settings, numbers: Applier
) -> None:
    with client.scan("numbers", where="n >= 10", columns="n") as scan:
        assert scan.schema == pa.schema([("n", pa.int64())])
        batches = list(scan)
        assert scan.outcome is not None
        assert (scan.outcome.rows, scan.outcome.version) == (ROWS - 10, 0)

    assert len(batches) > 10
    assert sorted(n for b in batches for n in b["n"].to_pylist()) == list(range(10, ROWS))
    assert results(settings) == []


def test_the_worker_stays_a_few_parts_ahead_of_a_slow_reader(
    client: Client, settings: Settings, numbers: Applier
) -> None:
    most = 0
    with client.scan("numbers") as scan:
        for _ in scan:
            wait_until(lambda: unread(settings) >= scans._MOST_PARTS or scan.outcome)
            most = max(most, unread(settings))
    assert most == scans._MOST_PARTS


def test_closing_in_the_middle_removes_the_files_and_stops_the_worker(
    client: Client, worker: ReadingWorker, settings: Settings, numbers: Applier
) -> None:
    scan = client.scan("numbers")
    next(scan)
    scan.close()

    assert list(scan) == []
    wait_until(lambda: not worker.reader._scans._active)
    assert [f for f in results(settings) if f.is_dir()] == []
    assert unread(settings) == 0


def test_a_scan_that_is_forgotten_is_closed(
    client: Client, worker: ReadingWorker, settings: Settings, numbers: Applier
) -> None:
    scan = client.scan("numbers")
    next(scan)
    del scan
    gc.collect()

    wait_until(lambda: not worker.reader._scans._active)
    assert unread(settings) == 0


def test_a_scan_that_was_closed_before_a_worker_came_to_it_is_not_begun(
    settings: Settings, numbers: Applier
) -> None:
    with Client(settings) as client:
        scan = client.scan("numbers")
        scan.close()
        word = settings.staging_root / "reads" / scan._future.request_id
        assert word.is_file()
        with ReadingWorker(settings) as worker:
            wait_until(lambda: scan._future.done())
            assert worker.reader._scans._active == set()
    assert isinstance(scan._future.exception(), RequestCancelled)
    assert results(settings) == []


def test_rows_that_nobody_takes_are_removed_after_read_ttl(
    settings: Settings, numbers: Applier
) -> None:
    short = settings.model_copy(update={"read_ttl": 0.5})
    with ReadingWorker(short), Client(short) as client:
        scan = client.scan("numbers")
        next(scan)
        wait_until(lambda: scan._future.done())
        with pytest.raises(RequestExpired, match="no rows of the scan were taken"):
            list(scan)
        assert results(settings) == []


def test_an_empty_result_has_a_schema(client: Client, numbers: Applier) -> None:
    scan = client.scan("numbers", where="n < 0")
    assert scan.reader().read_all().to_pydict() == {"n": []}


def test_a_limit_and_a_version_hold_for_the_whole_scan(client: Client, numbers: Applier) -> None:
    numbers.append(pa.table({"n": [-1]}))
    assert sum(b.num_rows for b in client.scan("numbers", limit=12_345)) == 12_345
    assert sum(b.num_rows for b in client.scan("numbers", version=0)) == ROWS


def test_what_is_wrong_with_the_query_is_raised_at_the_first_batch(
    client: Client, settings: Settings, numbers: Applier
) -> None:
    with pytest.raises(TableNotFound):
        next(client.scan("nowhere"))
    with pytest.raises(InvalidExpression, match="no column 'm'"):
        next(client.scan("numbers", where="m > 1"))
    assert results(settings) == []


def test_without_a_worker_it_says_so(settings: Settings) -> None:
    with (
        Client(settings) as alone,
        alone.scan("numbers", timeout=0.2) as scan,
        pytest.raises(ResultTimeout, match="does a worker run"),
    ):
        next(scan)


def test_a_worker_that_ends_tells_its_clients(settings: Settings, numbers: Applier) -> None:
    with Client(settings) as client:
        with ReadingWorker(settings):
            scan = client.scan("numbers")
            next(scan)
        with pytest.raises(EngineUnavailable, match="scan again"):
            list(scan)


@pytest.mark.on_disk("sets the time of a folder")
def test_a_scan_whose_worker_died_is_not_waited_for(
    settings: Settings, numbers: Applier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltaq.client.pending._ASK_AGAIN", 0.1)
    with Client(settings) as client:
        scan = client.scan("numbers")
        folder = on_disk(settings.staging_root) / "reads" / scan._future.request_id
        folder.mkdir(parents=True)  # begun by a worker that then died
        long_ago = time.time() - 2 * scans._DEAD
        os.utime(folder, (long_ago, long_ago))
        with ReadingWorker(settings), pytest.raises(EngineDied, match="scan again"):
            next(scan)


def test_too_many_scans_at_once_are_refused(
    client: Client, numbers: Applier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "_MOST_SCANS", 1)
    with client.scan("numbers") as first:
        next(first)
        with pytest.raises(EngineUnavailable, match="try again"):
            next(client.scan("numbers"))


def test_a_stream_may_be_appended_to_another_table(
    client: Client, settings: Settings, numbers: Applier
) -> None:
    future = client.append("copy", client.scan("numbers", where="n < 50000").reader())
    staged = settings.staging_root / "requests" / "copy" / f"{future.request_id}.parquet"
    assert pq.read_metadata(source_of(staged)).num_rows == 50_000


def test_an_event_loop_scans_too(
    settings: Settings, worker: ReadingWorker, numbers: Applier
) -> None:
    async def main() -> int:
        rows = 0
        async with AsyncClient(settings) as client, client.scan("numbers") as scan:
            async for batch in scan:
                rows += batch.num_rows
        return rows

    assert asyncio.run(main()) == ROWS
    assert results(settings) == []
