"""The client against a real Redis; the test plays the worker."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deltaq.client import (
    Client,
    Future,
    InvalidExpression,
    InvalidFrame,
    InvalidRequest,
    InvalidTableName,
    Outcome,
    OutcomeError,
    OutcomeExpired,
    QueueFull,
    QueueUnavailable,
    RequestCancelled,
    RequestIdConflict,
    ResultTimeout,
    SchemaMismatch,
    StagedDataMissing,
    State,
    load_settings,
)
from deltaq.client.listener import Listener
from deltaq.tasks import keys
from deltaq.tasks.location import Location, source_of
from deltaq.tasks.query import Query, decode_query
from deltaq.tasks.request import Append, Delete, Lane, Merge, Overwrite
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import staged_request
from tests.support.places import files_in
from tests.support.player import Player
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

TABLE = "prices"
ROWS = pa.table({"symbol": ["A", "B"], "price": [1.0, 2.0]})


def staged_files(settings: Settings) -> list[Location]:
    return files_in(settings.staging_root)


def next_query(player: Player) -> Query:
    """Take the next query from Celery's queue, as a worker's consumer would."""
    found: list[Query] = []

    def arrived() -> bool:
        raw = player.client.lpop(keys.READ_QUEUE)
        if raw is None:
            return False
        body = json.loads(base64.b64decode(json.loads(str(raw))["body"]))
        found.append(decode_query(body[0][0]))
        return True

    wait_until(arrived)
    return found[0]


def test_a_submitted_request_is_staged_and_queued_before_a_worker_is_there(
    client: Client, player: Player, settings: Settings
) -> None:
    future = client.append(TABLE, ROWS, partition_by="symbol", engine="spark")
    [request] = player.waiting(TABLE)
    assert isinstance(request, Append)
    assert (request.rows, request.partition_by, request.engine) == (2, ("symbol",), "spark")
    [file] = staged_files(settings)
    assert staged_request(file) == request
    assert pq.read_table(source_of(file)).to_pydict() == ROWS.to_pydict()
    assert not future.done()


def test_each_operation_carries_its_options(client: Client, player: Player) -> None:
    client.overwrite(TABLE, ROWS, where="symbol = 'A'")
    client.merge(TABLE, ROWS, keys="symbol", update=["price"], insert=False, delete_when="price<0")
    client.delete(TABLE, where="price > 1")
    overwrite, merge, delete = player.waiting(TABLE)
    assert isinstance(overwrite, Overwrite)
    assert overwrite.where == "symbol = 'A'"
    assert isinstance(merge, Merge)
    assert (merge.keys, merge.update, merge.insert) == (("symbol",), ("price",), False)
    assert merge.delete_when == "price<0"
    assert isinstance(delete, Delete)
    assert delete.where == "price > 1"


def test_a_future_resolves_when_its_request_is_committed(client: Client, player: Player) -> None:
    future = client.append(TABLE, ROWS)
    player.commit_all(TABLE)
    outcome = future.result(timeout=10)
    assert (outcome.state, outcome.version, outcome.operation) == (State.COMMITTED, 7, "append")
    assert (future.done(), future.cancelled(), future.exception()) == (True, False, None)


def test_a_failed_request_raises_the_typed_error_of_the_worker(
    client: Client, player: Player
) -> None:
    future = client.append(TABLE, ROWS)
    player.commit_all(TABLE, error=SchemaMismatch("no column price", details={"column": "price"}))
    with pytest.raises(SchemaMismatch, match="no column price") as caught:
        future.result(timeout=10)
    assert caught.value.details == {"column": "price"}
    assert (caught.value.table, caught.value.request_id) == (TABLE, future.request_id)


def test_futures_work_with_wait_as_completed_and_callbacks(client: Client, player: Player) -> None:
    futures = [client.append(TABLE, ROWS) for _ in range(5)]
    called = threading.Event()
    futures[0].add_done_callback(lambda _: called.set())
    player.commit_all(TABLE)
    done, pending = concurrent.futures.wait(futures, timeout=10)
    assert (len(done), len(pending)) == (5, 0)
    assert set(concurrent.futures.as_completed(futures, timeout=10)) == set(futures)
    assert called.wait(10)


def test_a_future_can_be_awaited(client: Client, player: Player) -> None:
    future = client.append(TABLE, ROWS)

    async def main() -> Outcome:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_waiting(future), timeout=0.01)
        player.commit_all(TABLE)
        return await future

    assert asyncio.run(main()).version == 7


def test_a_wait_that_is_given_up_leaves_no_callback_and_skips_none(
    client: Client, player: Player
) -> None:
    future = client.append(TABLE, ROWS)
    called: list[int] = []

    def once(_: object) -> None:
        future.remove_done_callback(once)

    future.add_done_callback(once)
    future.add_done_callback(lambda _: called.append(1))

    async def main() -> None:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_waiting(future), timeout=0.01)

    asyncio.run(main())
    assert len(vars(future)["_done_callbacks"]) == 2
    player.commit_all(TABLE)
    future.result(timeout=10)
    wait_until(lambda: called == [1])


async def _waiting(future: Future[Outcome]) -> Outcome:
    return await future


def test_only_a_sleeping_table_is_rung(client: Client, player: Player) -> None:
    for _ in range(3):
        client.append(TABLE, ROWS)
    client.append(TABLE, ROWS, lane="bulk")
    assert player.client.llen(keys.lane_queue(Lane.LIVE)) == 1
    assert player.client.llen(keys.lane_queue(Lane.BULK)) == 1


def test_a_wake_up_that_the_broker_does_not_take_fails_no_submission_but_a_query(
    settings: Settings, player: Player, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = f"unix://{tmp_path}/none?db=0"
    with Client(settings, broker_url=away, redis_timeout=0.5) as client:
        future = client.append(TABLE, ROWS)
        assert "wake-up for table prices was not sent" in caplog.text
        assert [r.request_id for r in player.waiting(TABLE)] == [future.request_id]
        with pytest.raises(QueueUnavailable, match="broker_url"):
            client.read(TABLE)


def test_a_result_that_is_late_can_be_asked_for_again(
    client: Client, player: Player, settings: Settings
) -> None:
    future = client.append(TABLE, ROWS)
    with pytest.raises(ResultTimeout, match=r"client.outcome\('prices', '") as caught:
        future.result(timeout=0.01)
    request_id = caught.value.request_id
    assert request_id == future.request_id
    queued = client.outcome(TABLE, request_id)
    assert queued is not None
    assert (queued.state, queued.operation) == (State.QUEUED, "append")
    player.commit_all(TABLE)
    assert future.result(timeout=10).version == 7
    with Client(settings) as another:
        assert another.outcome(TABLE, request_id) == future.result()
        assert another.outcome(TABLE, "unknown") is None


def test_a_queued_request_can_be_cancelled(
    client: Client, player: Player, settings: Settings
) -> None:
    future = client.append(TABLE, ROWS)
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(RequestCancelled, match="nothing was written"):
        future.result()
    assert player.waiting(TABLE) == []
    assert staged_files(settings) == []
    assert future.cancel()


def test_a_request_that_a_worker_has_cannot_be_cancelled(client: Client, player: Player) -> None:
    future = client.append(TABLE, ROWS)
    player.claim_all(TABLE)
    assert not future.cancel()
    player.commit_all(TABLE)
    assert future.result(timeout=10).state is State.COMMITTED
    assert not future.cancel()


def test_the_same_request_again_is_queued_once_and_shares_its_future(
    client: Client, player: Player, settings: Settings
) -> None:
    first = client.append(TABLE, ROWS, request_id="order-1")
    again = client.append(TABLE, ROWS, request_id="order-1")
    assert again is first
    with Client(settings) as another:
        elsewhere = another.append(TABLE, ROWS, request_id="order-1")
        assert len(player.waiting(TABLE)) == len(staged_files(settings)) == 1
        player.commit_all(TABLE)
        assert first.result(timeout=10) == elsewhere.result(timeout=10)


def test_a_request_says_who_submitted_it_first(settings: Settings, player: Player) -> None:
    with Client(settings, user="ann@web1") as ann, Client(settings, user="bob") as bob:
        ann.append(TABLE, ROWS, request_id="order-1")
        bob.append(TABLE, ROWS, request_id="order-1")  # no conflict
        bob.delete(TABLE, where="true")

        assert [r.submitted_by for r in player.waiting(TABLE)] == ["ann@web1", "bob"]


def test_the_same_request_after_its_commit_gets_the_first_outcome(
    client: Client, player: Player, settings: Settings
) -> None:
    first = client.append(TABLE, ROWS, request_id="order-1")
    player.commit_all(TABLE)
    assert client.append(TABLE, ROWS, request_id="order-1").result(10) == first.result(10)
    assert player.waiting(TABLE) == []
    assert staged_files(settings) == []


def test_the_same_id_with_other_content_is_refused(
    client: Client, player: Player, settings: Settings
) -> None:
    client.append(TABLE, ROWS, request_id="order-1")
    changed = ROWS.set_column(1, "price", pa.array([1.0, 2.5]))
    calls: list[Callable[[], object]] = [
        lambda: client.append(TABLE, changed, request_id="order-1"),
        lambda: client.append(TABLE, ROWS, request_id="order-1", partition_by="symbol"),
        lambda: client.overwrite(TABLE, ROWS, request_id="order-1"),
    ]
    for call in calls:
        with pytest.raises(RequestIdConflict, match="order-1"):
            call()
    player.commit_all(TABLE)
    with pytest.raises(RequestIdConflict, match="order-1"):
        calls[0]()
    assert staged_files(settings) == []


def test_a_full_lane_leaves_nothing_behind(settings: Settings) -> None:
    with Client(settings, inbox_max_requests=1) as client:
        client.append(TABLE, ROWS)
        with pytest.raises(QueueFull, match="inbox_max_requests=1"):
            client.append(TABLE, ROWS)
    assert len(staged_files(settings)) == 1


@pytest.mark.parametrize("name", ["../x", "", "x" * 300, "a/b", "\u00e4", "a\n", ".x"])
def test_an_invalid_table_name_is_refused_before_anything_is_written(
    client: Client, settings: Settings, name: str
) -> None:
    with pytest.raises(InvalidTableName):
        client.append(name, ROWS)
    with pytest.raises(InvalidTableName):
        client.read(name)
    assert not settings.staging_root.exists()


def test_arguments_that_cannot_be_meant_are_refused(client: Client, settings: Settings) -> None:
    refused: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (InvalidRequest, "request id", lambda: client.append(TABLE, ROWS, request_id="../x")),
        (InvalidRequest, "lane 'x'", lambda: client.append(TABLE, ROWS, lane="x")),  # type: ignore[arg-type]
        (InvalidRequest, "engine 'x'", lambda: client.append(TABLE, ROWS, engine="x")),  # type: ignore[arg-type]
        (InvalidRequest, "every column", lambda: client.append(TABLE, ROWS, partition_by=["symbol", "price"])),
        (SchemaMismatch, "missing partition column 'x'", lambda: client.append(TABLE, ROWS, partition_by="x")),
        (SchemaMismatch, "missing merge key column 'x'", lambda: client.merge(TABLE, ROWS, keys=["symbol", "x"])),
        (SchemaMismatch, "missing update column 'x'", lambda: client.merge(TABLE, ROWS, keys="symbol", update="x")),
        (InvalidRequest, "keys names no column", lambda: client.merge(TABLE, ROWS, keys=[])),
        (InvalidRequest, "keys: a column is named twice", lambda: client.merge(TABLE, ROWS, keys=["symbol"] * 2)),
        (InvalidRequest, "neither", lambda: client.merge(TABLE, ROWS, keys="symbol", update=[], insert=False)),
        (InvalidExpression, "where", lambda: client.delete(TABLE, where=" ")),
        (InvalidExpression, "where", lambda: client.delete(TABLE, where=None)),  # type: ignore[arg-type]
        (InvalidExpression, "delete_when", lambda: client.merge(TABLE, ROWS, keys="symbol", delete_when="")),
        (InvalidFrame, "no columns", lambda: client.append(TABLE, pa.table({}))),
        (InvalidFrame, "NoneType", lambda: client.append(TABLE, None)),
        (InvalidRequest, "version and timestamp", lambda: client.read(TABLE, version=1, timestamp="2024-01-01")),
        (InvalidRequest, "limit", lambda: client.read(TABLE, limit=-1)),
        (InvalidRequest, "columns names no", lambda: client.read(TABLE, columns=[])),
        (InvalidRequest, "timestamp 'soon'", lambda: client.read(TABLE, timestamp="soon")),
    ]  # fmt: skip
    for kind, message, call in refused:
        with pytest.raises(kind, match=message):
            call()
    assert not settings.staging_root.exists()


def test_reads_come_back_as_tables_and_leave_no_files(
    client: Client, player: Player, settings: Settings
) -> None:
    future = client.read(TABLE, columns="price", where="price > 1", timestamp="2024-05-31T12:00")
    query = next_query(player)
    assert query.timestamp == "2024-05-31T12:00:00+00:00"  # type: ignore[union-attr]
    player.answer(query, rows=ROWS.slice(0, 0).select(["price"]))
    rows = future.result(timeout=10)
    assert (rows.num_rows, rows.schema) == (0, pa.schema([("price", pa.float64())]))
    wait_until(lambda: staged_files(settings) == [])  # they go once the program is told


def test_a_read_whose_result_is_gone_says_so(client: Client, player: Player) -> None:
    future = client.read(TABLE)
    player.answer(next_query(player))
    with pytest.raises(StagedDataMissing, match="read_ttl"):
        future.result(timeout=10)


def test_blocking_queries_return_values(client: Client, player: Player) -> None:
    calls: list[tuple[Callable[[], object], dict[str, Any], object]] = [
        (lambda: client.exists(TABLE), {"value": True}, True),
        (lambda: client.tables(), {"value": ["a", "b"]}, ["a", "b"]),
        (lambda: client.detail(TABLE), {"value": {"version": 3}}, {"version": 3}),
        (lambda: client.history(TABLE, 5), {"rows": ROWS}, ROWS),
    ]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for call, facts, expected in calls:
            asked = pool.submit(call)
            player.answer(next_query(player), **facts)
            assert asked.result(timeout=10) == expected


def test_a_query_that_no_worker_answers_times_out(client: Client) -> None:
    with pytest.raises(ResultTimeout, match=r"no answer to exists.*serves reads"):
        client.exists(TABLE, timeout=0.05)


def test_an_outcome_missed_while_the_subscription_was_cut_is_heard_all_the_same(
    client: Client, player: Player
) -> None:
    future = client.append(TABLE, ROWS)
    player.client.client_kill_filter(_type="pubsub")
    player.commit_all(TABLE)
    assert future.result(timeout=10).version == 7


def test_an_outcome_whose_message_got_lost_is_looked_up(
    client: Client, player: Player, settings: Settings
) -> None:
    # Another client's request: its message goes to that client's channel.
    with Client(settings) as another:
        another.append(TABLE, ROWS, request_id="order-1")
    future = client.append(TABLE, ROWS, request_id="order-1")
    player.commit_all(TABLE)
    assert future.result(timeout=10).version == 7


def test_an_outcome_that_redis_no_longer_keeps_is_reported(
    settings: Settings, player: Player
) -> None:
    with Client(settings, outcome_ttl=1) as client:
        future = client.append(TABLE, ROWS)
        player.client.delete(keys.request(TABLE, future.request_id))
        with pytest.raises(OutcomeExpired, match="history"):
            future.result(timeout=15)


def test_without_redis_a_submission_fails_in_time_and_keeps_the_staged_file(
    tmp_path: Path,
) -> None:
    with Client(
        lake=tmp_path, redis_url=f"unix://{tmp_path}/none?db=0", redis_timeout=0.5
    ) as client:
        began = time.monotonic()
        with pytest.raises(QueueUnavailable, match="is kept") as caught:
            client.append(TABLE, ROWS, request_id="order-1")
        assert time.monotonic() - began < 2
    file = Path(caught.value.details["staged_file"])
    assert staged_request(file).request_id == "order-1"


def test_a_redis_that_hangs_or_dies_fails_a_submission_in_time_and_loses_nothing(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = load_settings(lake=tmp_path, redis_url=own_redis.url, redis_timeout=1.0)
    with Client(settings) as client:
        first = client.append(TABLE, ROWS)
        own_redis.pause()
        began = time.monotonic()
        with pytest.raises(QueueUnavailable, match="is kept"):
            client.append(TABLE, ROWS, request_id="order-1")
        assert time.monotonic() - began < 3
        own_redis.resume()
        own_redis.kill()
        with pytest.raises(QueueUnavailable, match="is kept"):
            client.append(TABLE, ROWS, request_id="order-2")
        own_redis.start()
        again = client.append(TABLE, ROWS, request_id="order-2")
        player = Player(settings)
        player.commit_all(TABLE)
        assert first.result(timeout=10) != again.result(timeout=10)
        assert client.append(TABLE, ROWS, request_id="order-1").request_id == "order-1"
        player.close()


def test_closing_a_client_ends_its_thread_and_its_waits(settings: Settings) -> None:
    client = Client(settings)
    future = client.append(TABLE, ROWS)
    client.close()
    client.close()
    with pytest.raises(ResultTimeout, match="was closed"):
        future.result(timeout=1)
    assert not [t for t in threading.enumerate() if t.name == "deltaq-listener" and t.is_alive()]
    with pytest.raises(InvalidRequest, match="closed"):
        client.append(TABLE, ROWS)


def test_a_forgotten_client_ends_when_none_of_its_futures_waits(
    settings: Settings, player: Player
) -> None:
    future = Client(settings).append(TABLE, ROWS)
    gc.collect()
    player.commit_all(TABLE)
    assert future.result(timeout=10).version == 7
    del future
    gc.collect()
    wait_until(
        lambda: not [t for t in threading.enumerate() if t.name == "deltaq-listener"],
        saying=threading.enumerate,
    )


@pytest.mark.on_disk("forks, which connections to S3 do not bear")
def test_a_forked_process_uses_the_client_afresh(client: Client, player: Player) -> None:
    before = client.append(TABLE, ROWS)
    answer, question = os.pipe()
    child = os.fork()
    if child == 0:  # what pytest knows of must not run twice: leave by _exit alone
        told = b"failed"
        try:
            with pytest.raises(OutcomeError, match="belongs to process"):
                before.result(timeout=1)
            mine = client.append(TABLE, ROWS, lane="bulk", request_id="child")
            told = str(mine.result(timeout=20).version).encode()
        finally:
            os.write(question, told)
            os._exit(0)
    wait_until(lambda: player.waiting(TABLE, Lane.BULK))
    player.commit_all(TABLE, Lane.BULK)
    assert os.read(answer, 100) == b"7"
    os.waitpid(child, 0)
    for end in (answer, question):
        os.close(end)
    player.commit_all(TABLE)
    assert before.result(timeout=10).version == 7


def test_many_threads_share_a_client(client: Client, player: Player) -> None:
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        futures = list(pool.map(lambda _: client.append(TABLE, ROWS), range(200)))
    ids = [r.request_id for r in player.waiting(TABLE)]
    assert sorted(ids) == sorted(f.request_id for f in futures)
    player.commit_all(TABLE)
    assert {f.result(timeout=10).version for f in futures} == {7}


MANY = """
import re, sys
from pathlib import Path
import pyarrow as pa
from deltaq.client import Client
def peak():
    # Not ru_maxrss: that begins with the peak of the process which started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
rows = pa.table({"symbol": ["A"] * 10, "price": [1.0] * 10})
with Client() as client:
    futures = [client.append("prices", rows) for _ in range(10_000)]
    print(peak(), flush=True)
    sys.stdin.readline()
    print(sum(f.result(timeout=60).version == 7 for f in futures), flush=True)
    print(peak(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_thousand_open_futures_take_less_than_300_mb(redis_server: RedisServer) -> None:
    # In memory where there is such a folder: ten thousand syncs of a busy disk take a minute.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as lake:
        player = Player(load_settings(lake=lake, redis_url=redis_server.url))
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "DELTAQ_LAKE": lake,
            "DELTAQ_REDIS_URL": redis_server.url,
        }
        with subprocess.Popen(
            [sys.executable, "-c", MANY],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert int(process.stdout.readline()) < 300
            player.commit_all(TABLE)
            process.stdin.write("\n")
            process.stdin.flush()
            assert int(process.stdout.readline()) == 10_000
            assert int(process.stdout.readline()) < 300
        player.close()


def test_a_listener_that_was_never_used_has_no_thread(settings: Settings) -> None:
    with Client(settings) as client:
        listener = client._core.shared.listener
        assert isinstance(listener, Listener)
        assert listener._running is None
