"""A client that holds submissions while Redis is down; the test stops and starts a real one."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from deltaq.client import (
    Client,
    Future,
    Outcome,
    OutcomeError,
    QueueUnavailable,
    RequestCancelled,
    RequestExpired,
    RequestIdConflict,
    State,
)
from deltaq.tasks.location import Location
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.staging import staged_request
from tests.support.places import files_in
from tests.support.player import Player
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

TABLE = "prices"
ROWS = pa.table({"n": [1]})


@pytest.fixture
def settings(own_redis: RedisServer, tmp_path: Path) -> Settings:
    return load_settings(lake=tmp_path, redis_url=own_redis.url, redis_timeout=1.0, spool=True)


def staged_files(settings: Settings) -> list[Location]:
    return files_in(settings.staging_root)


def ids(player: Player, table: str, lane: Lane = Lane.LIVE) -> list[str]:
    return [request.request_id for request in player.waiting(table, lane)]


def test_what_is_submitted_while_redis_is_down_goes_in_in_order_when_it_is_back(
    own_redis: RedisServer, client: Client, player: Player, settings: Settings
) -> None:
    before = client.append(TABLE, ROWS)
    own_redis.kill()
    lanes = [("a", Lane.LIVE), ("b", Lane.LIVE), (TABLE, Lane.BULK)]
    futures: dict[tuple[str, Lane], list[Future[Outcome]]] = {lane: [] for lane in lanes}
    for n in range(30):
        table, lane = lanes[n % 3]
        futures[table, lane].append(client.append(table, ROWS, lane=lane))
    assert not any(future.done() for held in futures.values() for future in held)
    assert len(staged_files(settings)) == 31

    own_redis.start()
    for (table, lane), held in futures.items():
        wait_until(lambda: len(ids(player, table, lane)) == 10)  # noqa: B023
        assert ids(player, table, lane) == [future.request_id for future in held]
        player.commit_all(table, lane)
        assert {future.result(timeout=10).version for future in held} == {7}
    player.commit_all(TABLE)
    assert before.result(timeout=10).version == 7


def test_a_client_may_begin_while_redis_is_down(
    own_redis: RedisServer, settings: Settings, player: Player
) -> None:
    own_redis.kill()
    with Client(settings) as client:
        futures = [client.append(TABLE, ROWS) for _ in range(3)]
        own_redis.start()
        wait_until(lambda: len(ids(player, TABLE)) == 3)
        player.commit_all(TABLE)

        async def outcome() -> State:
            return (await futures[-1]).state

        assert asyncio.run(outcome()) is State.COMMITTED


def test_with_redis_up_nothing_is_held(client: Client, player: Player) -> None:
    future = client.append(TABLE, ROWS)
    assert ids(player, TABLE) == [future.request_id]
    assert not [t for t in threading.enumerate() if t.name == "deltaq-spool"]


def test_what_is_submitted_to_a_redis_that_hangs_is_queued_once(
    own_redis: RedisServer, client: Client, player: Player
) -> None:
    client.append("other", ROWS)
    own_redis.pause()
    futures = [client.append(TABLE, ROWS) for _ in range(5)]
    own_redis.resume()
    wait_until(lambda: len(ids(player, TABLE)) == 5)
    assert ids(player, TABLE) == [future.request_id for future in futures]
    player.commit_all(TABLE)
    assert {future.result(timeout=10).version for future in futures} == {7}


def test_a_later_submission_waits_behind_what_a_full_lane_holds_back(
    own_redis: RedisServer, settings: Settings, player: Player
) -> None:
    with Client(settings, inbox_max_requests=2) as client:
        own_redis.kill()
        held = [client.append(TABLE, ROWS) for _ in range(4)]
        own_redis.start()
        wait_until(lambda: len(ids(player, TABLE)) == 2)
        other = client.append("other", ROWS)  # nothing of its lane is held
        assert ids(player, "other") == [other.request_id]
        held.append(client.append(TABLE, ROWS))
        seen: list[str] = []
        while len(seen) < 5:
            wait_until(lambda: ids(player, TABLE))
            seen += ids(player, TABLE)
            player.commit_all(TABLE)
        assert seen == [future.request_id for future in held]


def test_a_held_request_can_be_cancelled_and_never_goes_in(
    own_redis: RedisServer, client: Client, player: Player, settings: Settings
) -> None:
    own_redis.kill()
    first, second, third = (client.append(TABLE, ROWS) for _ in range(3))
    assert second.cancel()
    assert client.cancel(TABLE, request_id=first.request_id)
    for future in (first, second):
        with pytest.raises(RequestCancelled):
            future.result()
    assert [staged_request(f).request_id for f in staged_files(settings)] == [third.request_id]
    own_redis.start()
    wait_until(lambda: ids(player, TABLE))
    player.commit_all(TABLE)
    assert third.result(timeout=10).version == 7
    assert ids(player, TABLE) == []


def test_one_that_redis_may_have_is_not_said_to_be_cancelled(
    own_redis: RedisServer, client: Client, player: Player
) -> None:
    client.append("other", ROWS)
    own_redis.pause()
    future = client.append(TABLE, ROWS)
    with pytest.raises(QueueUnavailable):
        future.cancel()
    own_redis.resume()
    wait_until(lambda: ids(player, TABLE))
    assert future.cancel()
    assert ids(player, TABLE) == []


def test_one_that_expires_while_it_is_held_never_goes_in(
    own_redis: RedisServer, client: Client, player: Player, settings: Settings
) -> None:
    own_redis.kill()
    future = client.append(TABLE, ROWS, expires=0.001)
    last = client.append(TABLE, ROWS)
    own_redis.start()
    with pytest.raises(RequestExpired, match="nothing was written"):
        future.result(timeout=10)
    wait_until(lambda: ids(player, TABLE) == [last.request_id])
    assert len(staged_files(settings)) == 1


def test_the_same_request_held_twice_goes_in_once_and_a_conflict_is_told(
    own_redis: RedisServer, client: Client, player: Player, settings: Settings
) -> None:
    client.append(TABLE, ROWS, request_id="taken")
    player.commit_all(TABLE)
    own_redis.kill()
    first = client.append(TABLE, ROWS, request_id="order-1")
    assert client.append(TABLE, ROWS, request_id="order-1") is first
    with pytest.raises(RequestIdConflict):
        client.delete(TABLE, where="true", request_id="order-1")
    taken = client.delete(TABLE, where="true", request_id="taken")
    own_redis.start()
    with pytest.raises(RequestIdConflict):
        taken.result(timeout=10)
    wait_until(lambda: ids(player, TABLE) == ["order-1"])
    assert len(staged_files(settings)) == 1


def test_a_full_spool_refuses_and_keeps_the_staged_file(
    own_redis: RedisServer, settings: Settings, player: Player
) -> None:
    with Client(settings, spool_max_requests=2) as client:
        own_redis.kill()
        held = [client.append(TABLE, ROWS) for _ in range(2)]
        for table in (TABLE, "other"):
            with pytest.raises(QueueUnavailable, match="spool_max_requests=2") as caught:
                client.append(table, ROWS)
            assert caught.value.details["spooled"] == 2
            assert Path(caught.value.details["staged_file"]).exists()
        own_redis.start()
        wait_until(lambda: ids(player, TABLE) == [future.request_id for future in held])
        assert ids(player, "other") == []


def test_closing_says_what_is_left_and_keeps_its_files(
    own_redis: RedisServer, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(settings) as client:
        own_redis.kill()
        futures = [client.append(TABLE, ROWS) for _ in range(2)]
        with caplog.at_level(logging.WARNING, "deltaq.client.spool"):
            client.close()
    assert "2 requests" in caplog.text
    assert "deltaq recover" in caplog.text
    for future in futures:
        with pytest.raises(QueueUnavailable, match="deltaq recover") as caught:
            future.result()
        assert staged_request(Path(caught.value.details["staged_file"])).table == TABLE
    assert not [t for t in threading.enumerate() if t.name == "deltaq-spool"]


def test_closing_brings_in_what_it_can(
    own_redis: RedisServer, settings: Settings, player: Player
) -> None:
    with Client(settings) as client:
        own_redis.kill()
        futures = [client.append(TABLE, ROWS) for _ in range(5)]
        own_redis.start()
    assert ids(player, TABLE) == [future.request_id for future in futures]


def test_a_client_may_be_closed_by_a_callback_of_what_was_held(
    own_redis: RedisServer, client: Client, player: Player
) -> None:
    own_redis.kill()
    future = client.append(TABLE, ROWS, expires=0.001)
    behind = client.append(TABLE, ROWS)
    future.add_done_callback(lambda _: client.close())
    own_redis.start()
    assert isinstance(future.exception(timeout=10), RequestExpired)
    assert isinstance(behind.exception(timeout=10), QueueUnavailable)
    assert ids(player, TABLE) == []


def test_a_forked_process_does_not_submit_what_its_parent_holds(
    own_redis: RedisServer, client: Client, player: Player
) -> None:
    own_redis.kill()
    held = client.append(TABLE, ROWS)
    answer, question = os.pipe()
    child = os.fork()
    if child == 0:  # what pytest knows of must not run twice: leave by _exit alone
        told = b"failed"
        try:
            with pytest.raises(OutcomeError, match="belongs to process"):
                held.result(timeout=1)
            mine = client.append("child", ROWS)
            os.write(question, b"held")
            told = str(mine.result(timeout=20).version).encode()
        finally:
            os.write(question, told)
            os._exit(0)
    assert os.read(answer, 100) == b"held"
    assert held.cancel()
    own_redis.start()
    wait_until(lambda: ids(player, "child"))
    player.commit_all("child")
    assert os.read(answer, 100) == b"7"
    os.waitpid(child, 0)
    for end in (answer, question):
        os.close(end)
    assert ids(player, TABLE) == []
