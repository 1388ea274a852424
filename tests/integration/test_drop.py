"""A table is dropped in order, as a whole and once, whatever happens on the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

from deltaq.client import Client, Future, InvalidRequest, Outcome, TableNotFound
from deltaq.tasks.errors import StagedDataMissing
from deltaq.tasks.location import Location
from deltaq.tasks.request import Drop, Lane
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import staged_request
from deltaq.worker.drops import Drops
from deltaq.worker.lake import Lake
from tests.support.bench import Bench
from tests.support.log import committed_requests
from tests.support.places import files_in
from tests.support.waiting import wait_until

pytestmark = pytest.mark.s3


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    bench = Bench(settings)
    yield bench
    bench.close()


def rows(*keys: int) -> pa.Table:
    return pa.table({"k": list(keys)})


def settled(bench: Bench, *futures: Future[Outcome]) -> list[Outcome]:
    bench.committer.drain("t")
    return [future.result(5) for future in futures]


def grave(bench: Bench, request_id: str) -> Location:
    return bench.settings.lake / ".dropped" / "t" / request_id


def left_in(grave: Location) -> list[str]:
    """Name what is left of a dropped table: its files, or in S3 the list of them."""
    assert (grave / "dropped").is_file()
    if isinstance(grave, S3Path):
        return sorted(json.loads((grave / "files").read_bytes()))
    return [file.name for file in grave.iterdir() if file.name != "dropped"]


def test_what_is_queued_before_and_behind_a_drop_meets_its_own_table(
    bench: Bench, client: Client
) -> None:
    before = [client.append("t", rows(n)) for n in range(3)]
    drop = client.drop("t", confirm="t")
    behind = [client.append("t", rows(n)) for n in (7, 8)]

    told = settled(bench, *before, drop, *behind)

    assert [o.version for o in told] == [0, 0, 0, None, 0, 0]
    assert (told[3].operation, told[3].engine, told[3].group_size) == ("drop", None, 1)
    path = bench.settings.lake / "t"
    assert [i for *_, i in committed_requests(path)] == [f.request_id for f in behind]
    assert [o.attempt for o in told] == [1] * 6
    assert Lake(bench.settings.lake).tables() == ["t"]
    # Its files are gone, the word that it was dropped stays.
    assert left_in(grave(bench, drop.request_id)) == []


def test_a_new_table_goes_on_where_the_lane_is(bench: Bench, client: Client) -> None:
    settled(bench, client.append("t", rows(1)), client.append("t", rows(2), lane="bulk"))
    settled(bench, client.drop("t", confirm="t", lane="bulk"))
    later = settled(bench, client.append("t", rows(3)), client.append("t", rows(4), lane="bulk"))

    assert {o.version for o in later} == {0, 1}


def test_a_drop_whose_outcome_was_lost_is_not_done_to_the_next_table(
    bench: Bench, client: Client, settings: Settings
) -> None:
    settled(bench, client.append("t", rows(1)))
    drop = client.drop("t", confirm="t")
    request = staged_request(bench.staging.request_path("t", drop.request_id))
    assert isinstance(request, Drop)
    drops = Drops(Lake(settings.lake), bench.staging, keep=60.0)

    drops.drop(request)  # and the worker dies
    assert not Lake(settings.lake).exists("t")
    told = settled(bench, drop, client.append("t", rows(2)))
    drops.drop(request)  # one that was stopped all the time

    assert told[0].version is None
    assert Lake(settings.lake).exists("t")


def test_a_late_worker_does_not_take_the_next_table(
    bench: Bench, client: Client, settings: Settings
) -> None:
    settled(bench, client.append("t", rows(1)))
    drop = client.drop("t", confirm="t")
    request = staged_request(bench.staging.request_path("t", drop.request_id))
    assert isinstance(request, Drop)
    late, proceed = threading.Event(), threading.Event()

    class StoppedLake(Lake):
        """Stops its worker after the last look and before the rename."""

        def exists(self, table: str) -> bool:
            found = super().exists(table)
            late.set()
            assert proceed.wait(20)
            return found

    drops = Drops(StoppedLake(settings.lake), bench.staging, keep=60.0)
    thread = threading.Thread(target=drops.drop, args=(request,))
    thread.start()
    assert late.wait(20)
    settled(bench, drop, client.append("t", rows(2)))
    proceed.set()
    thread.join(20)

    assert Lake(settings.lake).exists("t")
    assert not thread.is_alive()


def test_a_drop_that_redis_brings_back_after_it_was_settled_does_nothing(
    bench: Bench, client: Client, settings: Settings
) -> None:
    settled(bench, client.append("t", rows(1)))
    drop = client.drop("t", confirm="t")
    path = bench.staging.request_path("t", drop.request_id)
    request = staged_request(path)
    assert isinstance(request, Drop)
    settled(bench, drop, client.append("t", rows(2)))
    wait_until(lambda: not path.exists())
    # Long after: the word is gone as well.
    drops = Drops(Lake(settings.lake), bench.staging, keep=-1.0)
    drops.bury(request)
    assert not grave(bench, drop.request_id).exists()

    with pytest.raises(StagedDataMissing):
        drops.drop(request)
    assert Lake(settings.lake).exists("t")


def test_what_a_worker_left_of_a_dropped_table_goes_with_the_next_drop(
    bench: Bench, client: Client, settings: Settings
) -> None:
    settled(bench, client.append("t", rows(1)))
    drop = client.drop("t", confirm="t")
    path = bench.staging.request_path("t", drop.request_id)
    request = staged_request(path)
    assert isinstance(request, Drop)
    Drops(Lake(settings.lake), bench.staging, keep=60.0).drop(request)
    path.unlink()  # acknowledged, and the worker dies
    assert len(files_in(grave(bench, drop.request_id))) > 1

    client.cancel(drop)
    settled(bench, client.append("t", rows(1)))
    settled(bench, client.drop("t", confirm="t"))

    assert left_in(grave(bench, drop.request_id)) == []


def test_a_table_that_is_not_there_is_not_dropped(bench: Bench, client: Client) -> None:
    future = client.drop("t", confirm="t", lane=Lane.MAINTENANCE)
    bench.committer.drain("t")

    with pytest.raises(TableNotFound):
        future.result(5)
    with pytest.raises(InvalidRequest, match="confirm='t', not 'tt'"):
        client.drop("t", confirm="tt")
