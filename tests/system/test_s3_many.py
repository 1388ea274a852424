"""Four workers, a hundred tables and twenty writers in S3, and a worker that is killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from deltaq.client import Client, Future, Outcome
from deltaq.tasks.location import Location
from deltaq.worker import System, embedded
from deltaq.worker.engines.urls import open_table
from tests.support.log import committed_requests, ledgers
from tests.support.s3 import S3Server
from tests.support.sweeping import make_sweeper
from tests.support.waiting import wait_until

TABLES, WRITERS = 100, 20
#: Of each writer to each of its tables, of which every one is two writers'.
APPENDS = 2

Written = dict[str, list[Future[Outcome]]]


@pytest.fixture
def system(s3_server: S3Server) -> Iterator[System]:
    lake = f"s3://{s3_server.bucket}/many"
    with embedded(lake, workers=4, spark="off", lease_ttl=2.0, **s3_server.settings()) as system:
        system.wait_ready()
        yield system
    shutil.rmtree(system.log.parent)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_four_workers_of_which_one_is_killed_leave_each_request_of_100_tables_once_and_in_order(
    system: System,
) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        submitted: list[Written] = [{} for _ in range(WRITERS)]
        writers = [pool.submit(write, system, n, submitted[n]) for n in range(WRITERS)]
        wait_until(lambda: len(done(submitted)) > 50, within=120)
        os.kill(system.worker_pids[1], signal.SIGKILL)
        assert len(done(submitted)) < TABLES * 2 * APPENDS  # it was in the middle
        for writer in writers:
            writer.result(240)

    with system.redis.connect() as redis:  # what the killed one did not come to
        make_sweeper(redis, system.settings).clean(older_than=0)
    for number in range(TABLES):
        table = f"t{number}"
        by_writer = [written[table] for written in submitted if table in written]
        assert len(by_writer) == 2
        check(system.settings.lake / table, by_writer)
    staged = (system.settings.staging_root / "requests").glob("*/*.parquet")
    assert not [*map(str, staged)]


def write(system: System, writer: int, written: Written) -> None:
    """Append to a tenth of the tables in turns, and wait for the results at the end."""
    mine = [n for n in range(TABLES) if writer in (n % WRITERS, (n + 7) % WRITERS)]
    with system.client() as client:
        for turn in range(APPENDS):
            for number in mine:
                submit(client, f"t{number}", writer * APPENDS + turn, written)
        for futures in list(written.values()):
            for future in futures:
                future.result(200)


def submit(client: Client, table: str, number: int, written: Written) -> None:
    rows = pa.table({"n": [number] * 10, "row": range(10)})
    written.setdefault(table, []).append(client.append(table, rows))


def done(submitted: Sequence[Written]) -> list[Future[Outcome]]:
    return [
        future
        for written in submitted
        for futures in list(written.values())
        for future in list(futures)
        if future.done()
    ]


def check(table: Location, by_writer: list[list[Future[Outcome]]]) -> None:
    committed = committed_requests(table, maintenance=False)
    assert [sequence for _, sequence, _ in committed] == list(range(1, len(committed) + 1))
    place = {request_id: n for n, (_, _, request_id) in enumerate(committed)}
    assert len(place) == len(committed) == sum(map(len, by_writer))
    for futures in by_writer:
        places = [place[future.request_id] for future in futures]
        assert places == sorted(places)  # as each writer submitted them
    versions = [version for version, app_id, _ in ledgers(table) if app_id.endswith("/live")]
    assert versions == sorted(set(versions))
    rows = open_table(table).to_pyarrow_table()
    assert rows.num_rows == 10 * len(committed)
    assert rows.group_by(["n", "row"]).aggregate([]).num_rows == rows.num_rows
