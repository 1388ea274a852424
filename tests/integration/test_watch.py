"""Following the commits of tables, with real Redis, tables and logs."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import threading
from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from deltaq.client import Client, InvalidRequest, RequestError, ResultTimeout, VersionNotFound
from deltaq.client.async_core import AsyncCore
from deltaq.client.following import Commit, Follower
from deltaq.client.looping import Looping
from deltaq.client.pace import Pace
from deltaq.client.watch import AsyncWatch, Watch
from deltaq.tasks import keys
from deltaq.tasks.connection import connect
from deltaq.tasks.location import remove_folder
from deltaq.tasks.request import Append
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.lake import Lake
from tests.support.applying import Applier
from tests.support.player import Player
from tests.support.reading import ReadingWorker
from tests.support.redis import RedisServer

ROWS = pa.table({"n": [1, 2, 3]})
#: Seconds. Longer than a test lasts: without word nothing is found.
NEVER = 1000.0


@pytest.fixture
def client(settings: Settings, worker: ReadingWorker) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def prices(settings: Settings) -> Applier:
    return table_of(settings, "prices")


def table_of(settings: Settings, name: str) -> Applier:
    engine = NativeEngine(Lake(settings.lake), StagingArea(settings.staging_root))
    return Applier(engine, settings.lake, name)


def tell(settings: Settings, version: int, table: str = "prices") -> None:
    """Publish what an acknowledgement publishes."""
    with connect(settings) as redis:
        redis.publish(keys.commits_channel(table), version)


def take(watch: Watch, count: int) -> list[Commit]:
    return [watch.next(timeout=10) for _ in range(count)]


def versions(commits: list[Commit]) -> list[int]:
    return [commit.version for commit in commits]


def test_each_commit_is_told_with_what_is_known_of_it(client: Client, prices: Applier) -> None:
    append = prices.stage(Append, ROWS)
    prices.apply(append)
    prices.delete("n = 2")
    write_deltalake(str(prices.path), ROWS, mode="append")
    DeltaTable(str(prices.path)).optimize.compact()

    with client.watch("prices", from_version=0) as watch:
        told = take(watch, 4)

    assert versions(told) == [0, 1, 2, 3]
    assert [c.operation for c in told] == ["append", "delete", "WRITE", "OPTIMIZE"]
    assert [c.rows for c in told] == [3, 1, 3, None]
    assert told[0].request_ids == (append.request_id,)
    assert told[2].request_ids == ()
    assert {c.engine for c in told} == {"native"}
    assert all(abs(dt.datetime.now(dt.UTC) - c.timestamp) < dt.timedelta(minutes=1) for c in told)


def test_a_watch_begins_with_the_next_commit_unless_told_otherwise(
    client: Client, prices: Applier
) -> None:
    prices.append(ROWS)
    with client.watch("prices", poll=0.05) as watch:
        prices.append(ROWS)
        assert versions(take(watch, 1)) == [1]
        assert watch.next_versions == {"prices": 2}
        with pytest.raises(ResultTimeout, match="no commit to prices"):
            watch.next(timeout=0.2)


def test_word_of_a_commit_brings_it_without_waiting_for_the_next_look(
    client: Client, prices: Applier, settings: Settings
) -> None:
    prices.append(ROWS)
    with client.watch("prices", poll=NEVER) as watch:
        with pytest.raises(ResultTimeout):
            watch.next(timeout=0.3)  # the look on subscription is over
        prices.append(ROWS)
        tell(settings, 1)
        assert versions(take(watch, 1)) == [1]


def test_acknowledging_a_request_gives_word(
    client: Client, settings: Settings, redis_server: RedisServer
) -> None:
    player = Player(settings)
    with redis_server.client() as redis, redis.pubsub() as heard:
        heard.subscribe(keys.commits_channel("prices"))
        client.append("prices", ROWS)
        player.commit_all("prices")

        messages = [heard.get_message(timeout=10) for _ in range(2)]
    player.close()

    assert [m["data"] for m in messages] == [1, "7"]  # subscribed, and the version


def test_commits_of_others_are_found_without_word(client: Client, prices: Applier) -> None:
    prices.append(ROWS)
    with client.watch("prices", poll=0.05) as watch:
        write_deltalake(str(prices.path), ROWS, mode="append")
        assert versions(take(watch, 1)) == [1]


def test_who_goes_on_where_another_watch_ended_misses_nothing(
    client: Client, prices: Applier
) -> None:
    for _ in range(5):
        prices.append(ROWS)
    with client.watch("prices", from_version=1) as first:
        told = take(first, 2)
        resume = first.next_versions
    prices.append(ROWS)
    with client.watch("prices", from_version=resume) as second:
        told += take(second, 3)
    assert versions(told) == [1, 2, 3, 4, 5]


def test_long_logs_come_in_pages_in_order(
    client: Client, prices: Applier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltaq.worker.commits._MOST_COMMITS", 3)
    for _ in range(11):
        prices.append(ROWS)
    with client.watch("prices", from_version=0, poll=NEVER) as watch:
        assert versions(take(watch, 11)) == list(range(11))


def test_a_table_that_is_not_there_yet_is_waited_for(
    client: Client, settings: Settings, prices: Applier
) -> None:
    with client.watch(["prices", "trades"], poll=0.05) as watch:
        prices.append(ROWS)
        table_of(settings, "trades").append(ROWS)
        told = take(watch, 2)
    assert {(c.table, c.version) for c in told} == {("prices", 0), ("trades", 0)}


@pytest.mark.parametrize("again", [1, 5])
def test_a_table_that_was_dropped_and_made_anew_begins_at_version_0(
    client: Client, settings: Settings, again: int
) -> None:
    prices = table_of(settings, "prices")
    for _ in range(3):
        prices.append(ROWS)
    with client.watch("prices", from_version=0, poll=0.05) as watch:
        assert versions(take(watch, 3)) == [0, 1, 2]
        remove_folder(prices.path)
        for _ in range(again):
            write_deltalake(str(prices.path), pa.table({"other": ["x"]}), mode="append")
        assert versions(take(watch, again)) == list(range(again))


def test_a_log_that_was_cleaned_before_the_place_is_an_error_with_the_range(
    client: Client, prices: Applier
) -> None:
    for _ in range(6):
        prices.append(ROWS)
    DeltaTable(str(prices.path)).create_checkpoint()
    for version in range(3):
        (prices.path / "_delta_log" / f"{version:020d}.json").unlink()

    with client.watch("prices", from_version=1) as watch:
        for _ in range(2):  # and it stays one
            with pytest.raises(VersionNotFound, match="log has versions 3 to 5") as caught:
                watch.next(timeout=10)
    assert caught.value.details == {"oldest": 3, "newest": 5, "from_version": 1}
    with client.watch("prices", from_version=3) as watch:
        assert versions(take(watch, 3)) == [3, 4, 5]


def test_a_version_that_the_table_has_not_come_to_is_an_error(
    client: Client, prices: Applier
) -> None:
    prices.append(ROWS)
    with (
        client.watch("prices", from_version=9) as watch,
        pytest.raises(VersionNotFound, match="versions 0 to 0"),
    ):
        watch.next(timeout=10)
    with client.watch("prices", from_version=1, poll=0.05) as watch:  # the next one
        prices.append(ROWS)
        assert versions(take(watch, 1)) == [1]


def test_iteration_ends_when_nothing_came_for_the_timeout(client: Client, prices: Applier) -> None:
    prices.append(ROWS)
    prices.append(ROWS)
    with client.watch("prices", from_version=0, timeout=0.3) as watch:
        assert versions(list(watch)) == [0, 1]


def test_without_a_worker_it_says_so(settings: Settings) -> None:
    with Client(settings) as alone, alone.watch("prices", from_version=0, timeout=0.3) as watch:
        with pytest.raises(ResultTimeout, match="does a worker run"):
            next(watch)
        with pytest.raises(ResultTimeout, match="does a worker run"):
            watch.next(timeout=0.1)


def test_closing_ends_the_wait_of_another_thread(client: Client, prices: Applier) -> None:
    prices.append(ROWS)
    watch = client.watch("prices")
    told: list[int] = []
    thread = threading.Thread(target=lambda: told.extend(c.version for c in watch))
    thread.start()

    watch.close()
    thread.join(5)

    assert not thread.is_alive()
    assert told == []
    with pytest.raises(InvalidRequest, match="closed"):
        watch.next(timeout=1)


def test_threads_that_share_a_watch_get_each_commit_once(client: Client, prices: Applier) -> None:
    for _ in range(30):
        prices.append(ROWS)
    told: list[int] = []
    with client.watch("prices", from_version=0, timeout=0.5) as watch:
        threads = [
            threading.Thread(target=lambda: told.extend(c.version for c in watch)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(told) == list(range(30))


def test_a_lost_subscription_is_renewed_and_what_was_missed_is_found(
    own_redis: RedisServer, settings: Settings, prices: Applier
) -> None:
    own = settings.model_copy(update={"redis_url": type(settings.redis_url)(own_redis.url)})
    prices.append(ROWS)
    with (
        ReadingWorker(own),
        Client(own) as client,
        client.watch("prices", poll=NEVER) as watch,
        own_redis.client() as redis,
    ):
        with pytest.raises(ResultTimeout):
            watch.next(timeout=0.3)
        redis.client_kill_filter(_type="pubsub")
        prices.append(ROWS)  # nobody hears of it
        assert versions(take(watch, 1)) == [1]


@pytest.mark.parametrize(
    ("tables", "options"),
    [
        ([], {}),
        ("prices", {"from_version": -1}),
        ("prices", {"from_version": {"trades": 1}}),
        ("prices", {"poll": 0}),
        ("../prices", {}),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(
    client: Client, tables: object, options: dict[str, object]
) -> None:
    with pytest.raises(RequestError):
        client.watch(tables, **options)  # type: ignore[arg-type]


def test_an_event_loop_watches_without_being_blocked(
    settings: Settings, worker: ReadingWorker, prices: Applier
) -> None:
    prices.append(ROWS)

    async def main() -> list[int]:
        core = AsyncCore(settings, partial(Looping, pace=Pace()))
        told = []
        follower = Follower(core, "prices", from_version=0, poll=0.05)
        async with AsyncWatch._of(follower, timeout=None) as watch:
            other = asyncio.create_task(asyncio.to_thread(prices.append, ROWS))
            async for commit in watch:
                told.append(commit.version)
                if len(told) == 2:
                    break
            await other
        await core.close()
        return told

    assert asyncio.run(main()) == [0, 1]


def test_a_log_of_an_unknown_writer_is_followed_too(client: Client, prices: Applier) -> None:
    prices.append(ROWS)
    entry = prices.path / "_delta_log" / f"{1:020d}.json"
    entry.write_text(json.dumps({"txn": {"appId": "x", "version": 1}}) + "\n")
    with client.watch("prices", from_version=1) as watch:
        (commit,) = take(watch, 1)
    assert (commit.version, commit.operation, commit.rows, commit.engine) == (
        1,
        "UNKNOWN",
        None,
        None,
    )
