"""The client for event loops against a real Redis; the test plays the worker."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deltaq.client import (
    AsyncClient,
    AsyncFuture,
    Client,
    InvalidRequest,
    InvalidTableName,
    Lane,
    Outcome,
    OutcomeError,
    QueueFull,
    QueueUnavailable,
    RequestCancelled,
    RequestIdConflict,
    ResultTimeout,
    SchemaMismatch,
    State,
    load_settings,
)
from deltaq.client.async_core import AsyncCore
from deltaq.tasks import keys
from deltaq.tasks.location import Location
from deltaq.tasks.settings import Settings
from tests.support.places import files_in
from tests.support.player import Player
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

TABLE = "prices"
ROWS = pa.table({"symbol": ["A", "B"], "price": [1.0, 2.0]})

Main = Callable[[AsyncClient], Coroutine[Any, Any, None]]


def run(settings: Settings, main: Main, **arguments: Any) -> None:
    """Run a coroutine with a client, and make sure that nothing is left of the client."""

    async def whole() -> None:
        tasks = asyncio.all_tasks()
        async with AsyncClient(settings, **arguments) as client:
            await main(client)
            waiting = client._core.waiting
        assert asyncio.all_tasks() == tasks
        assert waiting == 0

    asyncio.run(whole())
    wait_until(lambda: not own_threads(), saying=own_threads)


#: Threads of the embedded systems and the committers of other tests, and of all that is in S3.
_OF_OTHERS = ("deltaq-spawner", "deltaq-remover", "deltaq-fetch")


def own_threads() -> list[str]:
    names = (t.name for t in threading.enumerate() if t.name.startswith("deltaq-"))
    return [name for name in names if not name.startswith(_OF_OTHERS)]


async def until(condition: Callable[[], object], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.005)


async def in_thread(call: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, call, *args)


@pytest.fixture
def player(settings: Settings) -> Any:
    player = Player(settings)
    yield player
    player.close()


def staged_files(settings: Settings) -> list[Location]:
    return files_in(settings.staging_root)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def methods(kind: type) -> dict[str, list[inspect.Parameter]]:
        return {
            name: list(inspect.signature(method).parameters.values())[1:]
            for name, method in inspect.getmembers(kind, callable)
            if not name.startswith("_")
        }

    ours, theirs = methods(AsyncClient), methods(Client)
    assert set(ours) == set(theirs)
    for name, parameters in theirs.items():
        for own, their in zip(ours[name], parameters, strict=True):
            assert (own.name, own.kind, own.default) == (their.name, their.kind, their.default)
        assert getattr(AsyncClient, name).__doc__


def test_help_tells_what_an_awaited_method_returns() -> None:
    assert str(inspect.signature(AsyncClient.append)).endswith("-> 'AsyncFuture[Outcome]'")
    assert str(inspect.signature(AsyncClient.read)).endswith("-> 'pa.Table'")
    assert str(inspect.signature(AsyncClient.exists)).endswith("-> 'bool'")


def test_an_append_is_staged_and_queued_when_it_returns_and_its_future_tells_the_outcome(
    settings: Settings, player: Player
) -> None:
    async def main(client: AsyncClient) -> None:
        future = await client.append(TABLE, ROWS, partition_by="symbol")
        (request,) = player.waiting(TABLE)
        assert (request.request_id, future.done()) == (future.request_id, False)
        assert len(staged_files(settings)) == 1
        assert repr(future).startswith("<AsyncFuture append on prices: queued for ")
        with pytest.raises(OutcomeError, match="await it"):
            future.result()
        await in_thread(player.commit_all, TABLE)
        outcome = await future
        assert (outcome.version, outcome.state) == (7, State.COMMITTED)
        assert (await future, future.result(), future.exception()) == (outcome, outcome, None)
        assert repr(future).startswith("<AsyncFuture append on prices: committed in version 7 ")

    run(settings, main)


def test_each_operation_and_its_errors_are_those_of_the_client_for_threads(
    settings: Settings, player: Player
) -> None:
    async def main(client: AsyncClient) -> None:
        await client.overwrite(TABLE, ROWS, where="symbol = 'A'")
        await client.merge(TABLE, ROWS, keys="symbol")
        future = await client.delete(TABLE, where="price > 1")
        assert [type(r).__name__ for r in player.waiting(TABLE)] == ["Overwrite", "Merge", "Delete"]
        with pytest.raises(InvalidTableName):
            await client.append("../prices", ROWS)
        with pytest.raises(SchemaMismatch):
            await client.merge(TABLE, ROWS, keys="day")
        with pytest.raises(RequestIdConflict):
            await client.append(TABLE, ROWS, request_id=future.request_id)
        await in_thread(lambda: player.commit_all(TABLE, error=SchemaMismatch("no column")))
        with pytest.raises(SchemaMismatch, match="no column"):
            await future
        assert future.state is State.FAILED

    run(settings, main)
    assert staged_files(settings) == []


def test_awaitables_work_with_gather_wait_wait_for_and_as_completed(
    settings: Settings, player: Player
) -> None:
    async def main(client: AsyncClient) -> None:
        futures = [await client.append(TABLE, ROWS) for _ in range(5)]
        done, pending = await asyncio.wait(futures, timeout=0.01)  # type: ignore[type-var]
        assert (len(done), len(pending)) == (0, 5)
        called: list[AsyncFuture[Any]] = []
        futures[0].add_done_callback(called.append)
        await in_thread(player.commit_all, TABLE)
        outcomes = await asyncio.gather(*futures)
        assert [o.request_id for o in outcomes] == [f.request_id for f in futures]
        assert await asyncio.wait_for(futures[0], 1) == outcomes[0]
        earliest = [await each for each in asyncio.as_completed(futures, timeout=5)]
        assert {o.request_id for o in earliest} == {f.request_id for f in futures}
        done, pending = await asyncio.wait(futures)  # type: ignore[type-var]
        assert (len(done), len(pending), called) == (5, 0, [futures[0]])

    run(settings, main)


def test_requests_that_are_gathered_are_queued_in_the_order_in_which_they_were_created(
    settings: Settings, player: Player
) -> None:
    small, large = ROWS, pa.table({"n": pa.array(range(200_000)).cast(pa.float64())})

    async def main(client: AsyncClient) -> None:
        frames = [large if n % 10 == 0 else small for n in range(200)]
        futures = await asyncio.gather(
            *(
                client.append(TABLE, f, lane="bulk" if n % 3 else "live")
                for n, f in enumerate(frames)
            )
        )
        for lane, mine in (
            (Lane.LIVE, [f for n, f in enumerate(futures) if not n % 3]),
            (Lane.BULK, [f for n, f in enumerate(futures) if n % 3]),
        ):
            queued = [request.request_id for request in player.waiting(TABLE, lane)]
            assert queued == [future.request_id for future in mine]
            await in_thread(player.commit_all, TABLE, lane)
        await asyncio.gather(*futures)

    run(settings, main)


def test_order_survives_an_outage_between_requests_that_are_gathered(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = load_settings(lake=tmp_path / "lake", redis_url=own_redis.url, redis_timeout=20)
    player = Player(settings)

    async def main(client: AsyncClient) -> None:
        await client.append(TABLE, ROWS)
        calls = [asyncio.create_task(client.append(TABLE, ROWS)) for _ in range(300)]
        await calls[50]
        await in_thread(own_redis.kill)
        await in_thread(own_redis.start)
        futures = await asyncio.gather(*calls)
        queued = [request.request_id for request in player.waiting(TABLE)]
        assert queued[1:] == [future.request_id for future in futures]
        await in_thread(player.commit_all, TABLE)
        await asyncio.gather(*futures)

    run(settings, main)
    player.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_thousand_futures_wait_over_two_connections(settings: Settings, player: Player) -> None:
    async def main(client: AsyncClient) -> None:
        before = len(player.client.client_list())
        futures = await asyncio.gather(*(client.append(TABLE, ROWS) for _ in range(10_000)))
        assert client._core.waiting == 10_000
        others = [c for c in player.client.client_list() if c["cmd"] != "client|list"]
        # One for what is sent, one for what is heard, and Celery's.
        assert len(others) <= before + 3
        await in_thread(player.commit_all, TABLE)
        outcomes = await asyncio.gather(*futures)
        assert {o.version for o in outcomes} == {7}

    run(settings, main)
    assert player.client.client_list(_type="pubsub") == []


def test_a_cancelled_wait_leaves_the_request_and_nothing_else(
    settings: Settings, player: Player
) -> None:
    async def main(client: AsyncClient) -> None:
        future = await client.append(TABLE, ROWS)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(future, 0.01)
        assert future._callbacks == []  # no waiter is kept for those who gave up
        (request,) = player.waiting(TABLE)
        found = await client.outcome(TABLE, request.request_id)
        assert found is not None
        assert found.state is State.QUEUED
        await in_thread(player.commit_all, TABLE)
        assert (await future).version == 7

    run(settings, main)


def test_an_append_that_is_cancelled_before_it_was_sent_leaves_nothing_behind(
    settings: Settings, player: Player, own_redis: RedisServer
) -> None:
    own = load_settings(**{**settings.model_dump(), "redis_url": own_redis.url})
    own_player = Player(own)

    async def main(client: AsyncClient) -> None:
        await (await _committed(client, own_player))
        await in_thread(own_redis.kill)
        calls = [asyncio.create_task(client.append(TABLE, ROWS)) for _ in range(20)]
        await until(lambda: len(staged_files(own)) == 20)
        for call in calls:
            call.cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(end) for end in ended} == {asyncio.CancelledError}
        await until(lambda: staged_files(own) == [])
        assert client._core._wire._outbox._lines == {}  # type: ignore[attr-defined]
        await in_thread(own_redis.start)
        await (await _committed(client, own_player))  # and the client goes on

    run(own, main)
    own_player.close()


async def _committed(client: AsyncClient, player: Player) -> AsyncFuture[Outcome]:
    future = await client.append(TABLE, ROWS)
    await in_thread(player.commit_all, TABLE)
    return future


def test_an_append_that_is_cancelled_while_it_is_staged_leaves_nothing_behind(
    settings: Settings, player: Player
) -> None:
    entered, proceed = threading.Event(), threading.Event()

    def batches() -> Any:
        entered.set()
        proceed.wait(10)
        yield ROWS.to_batches()[0]

    async def main(client: AsyncClient) -> None:
        reader = pa.RecordBatchReader.from_batches(ROWS.schema, batches())
        call = asyncio.create_task(client.append(TABLE, reader))
        await until(entered.is_set)
        later = asyncio.create_task(client.append(TABLE, ROWS, request_id="later"))
        await until(lambda: len([f for f in staged_files(settings) if f.stem == "later"]) == 1)
        assert player.waiting(TABLE) == []  # it waits for its turn
        call.cancel()
        future = await later
        proceed.set()
        await until(lambda: len(staged_files(settings)) == 1)
        assert [request.request_id for request in player.waiting(TABLE)] == ["later"]
        await in_thread(player.commit_all, TABLE)
        await future

    run(settings, main)


def test_a_request_is_cancelled_by_its_future_and_by_its_id(
    settings: Settings, player: Player
) -> None:
    async def main(client: AsyncClient) -> None:
        first, second, third = [await client.append(TABLE, ROWS) for _ in range(3)]
        assert await first.cancel()
        assert await client.cancel(second)
        assert await client.cancel(TABLE, request_id=third.request_id)
        assert not await client.cancel(TABLE, request_id="unknown")
        for future in (first, second, third):
            with pytest.raises(RequestCancelled):
                await future
            assert (future.cancelled(), future.state) == (True, State.CANCELLED)
        claimed = await client.append(TABLE, ROWS)
        await in_thread(player.claim_all, TABLE)
        assert not await claimed.cancel()
        await in_thread(player.commit_all, TABLE)
        assert (await claimed).version == 7

    run(settings, main)
    assert staged_files(settings) == []


def test_outcomes_come_after_redis_was_restarted_while_tasks_wait(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = load_settings(lake=tmp_path / "lake", redis_url=own_redis.url)
    player = Player(settings)

    async def main(client: AsyncClient) -> None:
        futures = [await client.append(TABLE, ROWS) for _ in range(10)]
        waits = asyncio.gather(*futures)
        await in_thread(own_redis.kill)
        await in_thread(own_redis.start)
        await in_thread(player.commit_all, TABLE)
        assert len(await asyncio.wait_for(waits, 20)) == 10

    run(settings, main)
    player.close()


def test_a_redis_that_is_down_is_told_within_the_time_and_the_staged_file_named(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = load_settings(lake=tmp_path / "lake", redis_url=own_redis.url, redis_timeout=0.5)
    player = Player(settings)

    async def main(client: AsyncClient) -> None:
        await in_thread(own_redis.kill)
        with pytest.raises(QueueUnavailable) as caught:
            await client.append(TABLE, ROWS, request_id="once")
        assert Path(caught.value.details["staged_file"]).exists()
        await in_thread(own_redis.start)
        future = await client.append(TABLE, ROWS, request_id="once")
        await in_thread(player.commit_all, TABLE)
        assert (await future).version == 7

    run(settings, main)
    player.close()


def test_a_spool_holds_what_is_gathered_and_brings_it_in_in_order(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = load_settings(lake=tmp_path / "lake", redis_url=own_redis.url)
    player = Player(settings)

    async def main(client: AsyncClient) -> None:
        await (await _committed(client, player))
        await in_thread(own_redis.kill)
        futures = await asyncio.gather(*(client.append(TABLE, ROWS) for _ in range(50)))
        assert not any(future.done() for future in futures)
        assert await futures[7].cancel()
        await in_thread(own_redis.start)
        rest = [future.request_id for n, future in enumerate(futures) if n != 7]
        await until(lambda: len(player.waiting(TABLE)) == 49)
        assert [request.request_id for request in player.waiting(TABLE)] == rest
        await in_thread(player.commit_all, TABLE)
        await asyncio.gather(*futures, return_exceptions=True)

    run(settings, main, spool=True)
    player.close()


def test_who_blocks_waits_for_room_and_keeps_order_and_who_does_not_is_told(
    settings: Settings, player: Player
) -> None:
    async def main(client: AsyncClient) -> None:
        futures = [await client.append(TABLE, ROWS) for _ in range(3)]
        with pytest.raises(QueueFull):
            await client.append(TABLE, ROWS)
        calls = [asyncio.create_task(client.append(TABLE, ROWS, block=True)) for _ in range(9)]
        await until(lambda: len(staged_files(settings)) == 12)
        seen: list[str] = []
        while len(seen) < 12:
            waiting = await in_thread(player.waiting, TABLE)
            if waiting:
                seen += [request.request_id for request in waiting]
                await in_thread(partial(player.commit_all, TABLE, count=len(waiting)))
            await asyncio.sleep(0.005)
        futures += await asyncio.gather(*calls)
        assert seen == [future.request_id for future in futures]
        await asyncio.gather(*futures)
        with pytest.raises(InvalidRequest, match="block=True"):
            await client.append(TABLE, ROWS, timeout=1)

    run(settings, main, inbox_max_requests=3)


def test_a_small_request_does_not_overtake_a_large_one_that_waits_for_room(
    settings: Settings, player: Player
) -> None:
    large = pa.table({"bytes": [os.urandom(600_000)]})

    async def main(client: AsyncClient) -> None:
        first = await client.append(TABLE, large)
        calls = [
            asyncio.create_task(client.append(TABLE, frame, block=True)) for frame in (large, ROWS)
        ]
        line = client._core._wire._outbox._lines  # type: ignore[attr-defined]
        await until(lambda: len(staged_files(settings)) == 3)
        await until(lambda: line[TABLE, Lane.LIVE][0].sent > 2)
        assert [request.request_id for request in player.waiting(TABLE)] == [first.request_id]
        await in_thread(player.commit_all, TABLE)
        futures = [first, *await asyncio.gather(*calls)]
        await in_thread(player.commit_all, TABLE)
        outcomes = await asyncio.gather(*futures)
        assert [outcome.request_id for outcome in outcomes] == [f.request_id for f in futures]
        places = [future.place for future in futures]
        assert places == [(Lane.LIVE, 1), (Lane.LIVE, 2), (Lane.LIVE, 3)]

    run(settings, main, inbox_max_bytes=1_000_000)


def test_an_append_that_is_cancelled_while_it_is_on_its_way_is_queued_with_its_file_and_rung(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = load_settings(lake=tmp_path / "lake", redis_url=own_redis.url)
    player = Player(settings)

    async def main(client: AsyncClient) -> None:
        await (await _committed(client, player))
        await in_thread(own_redis.pause)
        call = asyncio.create_task(client.append("other", ROWS))
        lines = client._core._wire._outbox._lines  # type: ignore[attr-defined]
        line = "other", Lane.LIVE
        await until(lambda: line in lines and lines[line][0].sent)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await in_thread(own_redis.resume)
        await until(lambda: player.waiting("other"))
        (request,) = player.waiting("other")
        assert player.staging.request_path("other", request.request_id).exists()
        await until(lambda: player.client.llen(keys.lane_queue(Lane.LIVE)) == 2)

    run(settings, main)
    player.close()


def test_a_redis_without_memory_takes_nothing_of_what_is_gathered_and_all_are_told(
    settings: Settings, player: Player
) -> None:
    async def main(client: AsyncClient) -> None:
        player.client.config_set("maxmemory", 1)
        calls = (client.append(TABLE, ROWS) for _ in range(50))
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(end) for end in ended} == {QueueFull}
        player.client.config_set("maxmemory", 0)
        await (await _committed(client, player))

    run(settings, main)
    assert staged_files(settings) == []


def test_a_client_serves_one_event_loop(settings: Settings) -> None:
    client = AsyncClient(settings)  # which no loop needs to run for

    async def main() -> None:
        with pytest.raises(InvalidRequest, match="another event loop"):
            await client.append(TABLE, ROWS)

    with asyncio.Runner() as first:
        first.run(client.append(TABLE, ROWS))
        with asyncio.Runner() as second:
            second.run(main())
        first.run(client.close())


def test_a_closed_client_says_so_and_fails_the_futures_that_wait(
    settings: Settings, player: Player
) -> None:
    async def main() -> None:
        client = AsyncClient(settings)
        future = await client.append(TABLE, ROWS)
        await client.close()
        await client.close()
        with pytest.raises(ResultTimeout, match="the request goes on"):
            await future
        for call in (client.append(TABLE, ROWS), client.exists(TABLE), client.status()):
            with pytest.raises(InvalidRequest, match="closed"):
                await call

    asyncio.run(main())
    assert len(player.waiting(TABLE)) == 1
    wait_until(lambda: not own_threads(), saying=own_threads)


def test_a_client_that_closes_amid_submissions_ends_them_all(
    settings: Settings, player: Player
) -> None:
    async def main() -> None:
        client = AsyncClient(settings)
        await client.append(TABLE, ROWS)
        calls = [asyncio.create_task(client.append(TABLE, ROWS)) for _ in range(300)]
        await calls[0]
        await client.close()
        ended = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
        assert {type(end) for end in ended} <= {AsyncFuture, InvalidRequest, QueueUnavailable}

    asyncio.run(main())
    wait_until(lambda: not own_threads(), saying=own_threads)


def test_a_query_that_nobody_waits_for_any_longer_is_forgotten(
    settings: Settings, player: Player
) -> None:
    async def main(client: AsyncClient) -> None:
        with pytest.raises(ResultTimeout, match="does a worker run"):
            await client.exists(TABLE, timeout=0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.read(TABLE), 0.05)
        assert client._core.waiting == 0

    run(settings, main)


def test_the_loop_goes_on_while_frames_are_staged_and_the_broker_hangs(
    own_redis: RedisServer, tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    own = load_settings(
        lake=tmp_path / "lake",
        redis_url=settings.redis_url.get_secret_value(),
        broker_url=own_redis.url,
        redis_timeout=1,
    )
    player = Player(own)

    async def main(client: AsyncClient) -> None:
        await in_thread(own_redis.pause)
        with caplog.at_level(logging.ERROR):
            future = await asyncio.wait_for(client.append(TABLE, ROWS), 0.9)
        await in_thread(player.commit_all, TABLE)
        assert (await asyncio.wait_for(future, 0.9)).version == 7
        await in_thread(own_redis.resume)

    run(own, main)
    player.close()


def test_a_new_operation_of_the_core_is_a_coroutine_so_that_both_clients_get_it() -> None:
    methods = inspect.getmembers(AsyncCore, inspect.isfunction)
    public = {n: m for n, m in methods if not n.startswith("_")}
    plain = {"accepted", "check_open", "discard", "follow", "future_of", "later", "start"}
    assert {n for n, m in public.items() if not inspect.iscoroutinefunction(m)} == plain
