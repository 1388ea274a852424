"""Requests with a deadline, from the call to the committer, on a real Redis and real tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from deltaq.client import Client, Future, InvalidRequest, Outcome, RequestExpired, State
from deltaq.tasks import keys
from deltaq.tasks.entries import Clock
from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings
from deltaq.worker.groups import CommitGroup
from deltaq.worker.ledger import app_id
from deltaq.worker.router import Performed
from tests.support.bench import Bench
from tests.support.log import committed_requests
from tests.support.places import files_in

ROWS = pa.table({"n": [1]})
SOON, HALF_AN_HOUR = 0.05, 1800.0


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    bench = Bench(settings)
    yield bench
    bench.close()


def let_an_hour_pass(bench: Bench) -> None:
    """Have the committer read the clock of Redis as if it were an hour later."""
    clock = bench.inbox.clock

    def later(table: str, lane: Lane) -> Clock:
        now = clock(table, lane)
        return replace(now, now_ms=now.now_ms + 3_600_000)

    bench.inbox.clock = later  # type: ignore[method-assign]


def in_table(bench: Bench, table: str = "t") -> list[str]:
    return [entry[-1] for entry in committed_requests(bench.settings.lake / table)]


def staged_files(settings: Settings) -> list[Location]:
    return files_in(settings.staging_root)


def assert_expired(future: Future[Outcome]) -> None:
    with pytest.raises(RequestExpired, match="not begun before it expired; nothing was written"):
        future.result(timeout=10)


def test_a_request_not_begun_in_time_is_dropped_and_its_caller_told(
    bench: Bench, client: Client
) -> None:
    future = client.append("t", ROWS, expires=HALF_AN_HOUR)
    let_an_hour_pass(bench)

    bench.committer.drain("t")

    assert_expired(future)
    outcome = client.outcome("t", future.request_id)
    assert outcome is not None
    assert (outcome.state, outcome.sequence) == (State.EXPIRED, 1)
    assert not (bench.settings.lake / "t").exists()
    assert staged_files(bench.settings) == []
    assert bench.redis.exists(keys.lease("t"), keys.wake("t"), keys.TABLES) == 0
    assert bench.redis.hget(keys.seq("t"), "bytes:live") == "0"
    assert not future.cancel()


def test_a_request_begun_in_time_is_committed(bench: Bench, client: Client) -> None:
    by_seconds = client.append("t", ROWS, expires=3600)
    by_moment = client.merge("t", ROWS, keys="n", expires=datetime.now(UTC) + timedelta(hours=1))

    bench.committer.drain("t")

    assert by_seconds.result(10).version == 0
    assert by_moment.result(10).version == 1


def test_expired_requests_among_others_are_left_out_of_the_group(
    bench: Bench, client: Client
) -> None:
    expires = [None, HALF_AN_HOUR, HALF_AN_HOUR, None, 7200, HALF_AN_HOUR]
    futures = [client.append("t", ROWS, expires=seconds) for seconds in expires]
    let_an_hour_pass(bench)

    bench.committer.drain("t")

    kept = [f for f, seconds in zip(futures, expires, strict=True) if seconds != HALF_AN_HOUR]
    for future, seconds in zip(futures, expires, strict=True):
        if seconds == HALF_AN_HOUR:
            assert_expired(future)
    assert [f.result(10).version for f in kept] == [0, 1, 1]
    assert in_table(bench) == [f.request_id for f in kept]


def test_a_request_that_was_begun_in_time_and_tried_again_does_not_expire(
    bench: Bench, client: Client
) -> None:
    future = client.append("t", ROWS, expires=HALF_AN_HOUR)
    bench.failures.append(StorageUnavailable("away"))
    apply = bench.router.apply

    def slowly(group: CommitGroup) -> Performed:
        let_an_hour_pass(bench)
        return apply(group)

    bench.router.apply = slowly  # type: ignore[method-assign]

    bench.committer.drain("t")

    assert future.result(10).version == 0


def test_a_request_that_somebody_claimed_may_yet_be_committed_and_does_not_expire(
    bench: Bench, client: Client
) -> None:
    future = client.append("t", ROWS, expires=HALF_AN_HOUR)
    with bench.leases.take("t") as lease:
        assert lease is not None
        bench.inbox.claim("t", Lane.LIVE, [1], token=lease.token)
        bench.redis.delete(keys.lease("t"))
    let_an_hour_pass(bench)

    bench.committer.drain("t")

    assert future.result(10).version == 0


def test_an_expired_request_that_is_in_the_table_is_committed(bench: Bench, client: Client) -> None:
    future = client.append("t", ROWS, expires=HALF_AN_HOUR)

    def die_before_acknowledging(*_: object) -> None:
        raise KeyboardInterrupt

    settlement = bench.committer._settlement
    settlement.acknowledge, kept = die_before_acknowledging, settlement.acknowledge  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        bench.committer.drain("t")
    settlement.acknowledge = kept  # type: ignore[method-assign]
    bench.redis.delete(keys.lease("t"))
    # As if the claim had been lost, so that the ledger alone can tell.
    bench.redis.hdel(keys.seq("t"), "claimed:live")
    let_an_hour_pass(bench)

    bench.committer.drain("t")

    assert future.result(10).version == 0
    assert in_table(bench) == [future.request_id]
    epoch = str(bench.redis.hget(keys.seq("t"), "epoch"))
    assert bench.router.ledger("t", app_id(epoch, Lane.LIVE)) == 1


def test_without_deadlines_the_committer_does_not_ask_for_the_time(
    bench: Bench, client: Client
) -> None:
    client.append("t", ROWS)
    bench.redis.config_resetstat()

    bench.committer.drain("t")

    asked = bench.redis.info("commandstats")
    assert "cmdstat_time" not in asked
    client.append("t", ROWS, expires=3600)
    bench.committer.drain("t")
    assert "cmdstat_time" in bench.redis.info("commandstats")


def test_time_spent_waiting_for_room_counts(bench: Bench, client: Client) -> None:
    with Client(bench.settings, inbox_max_requests=1) as small:
        small.append("t", ROWS)
        assert_expired(small.append("t", ROWS, expires=SOON, block=True))
    assert len(staged_files(bench.settings)) == 1
    assert len(bench.inbox.peek("t", Lane.LIVE, count=10)) == 1


def test_the_same_request_again_keeps_its_first_deadline(bench: Bench, client: Client) -> None:
    first = client.append("t", ROWS, request_id="order-1", expires=HALF_AN_HOUR)
    moment = datetime.now(UTC) + timedelta(hours=2)
    assert client.append("t", ROWS, request_id="order-1", expires=moment) is first
    let_an_hour_pass(bench)

    bench.committer.drain("t")

    assert_expired(first)
    assert_expired(client.append("t", ROWS, request_id="order-1"))
    assert staged_files(bench.settings) == []


def test_the_deadline_is_on_the_wire_only_when_there_is_one(bench: Bench, client: Client) -> None:
    client.append("t", ROWS)
    client.append("t", ROWS, expires=60.25)
    plain, limited = bench.inbox.peek("t", Lane.LIVE, count=10)
    assert (plain.deadline_ms, "expires" in plain.wire) == (None, False)
    assert '"expires_ms":60250' in limited.wire
    now_ms = bench.inbox.clock("t", Lane.LIVE).now_ms
    assert limited.deadline_ms is not None
    assert now_ms < limited.deadline_ms <= now_ms + 60_250


@pytest.mark.parametrize(
    "expires",
    [0, -1, float("nan"), float("inf"), True, "soon", datetime(2020, 1, 1), datetime.min],
)
def test_a_deadline_that_cannot_be_meant_is_refused(client: Client, expires: float) -> None:
    with pytest.raises(InvalidRequest, match="expires"):
        client.append("t", ROWS, expires=expires)
    assert not client.settings.staging_root.exists()


def test_a_request_of_another_client_can_be_cancelled_by_its_id(
    bench: Bench, client: Client
) -> None:
    future = client.append("t", ROWS)
    with Client(bench.settings) as another:
        assert another.cancel("t", request_id=future.request_id)
        assert another.cancel("t", request_id=future.request_id)
        assert not another.cancel("t", request_id="unknown")
    assert future.exception(timeout=10) is not None
    assert future.cancelled()
    assert client.cancel(future)

    bench.committer.drain("t")

    assert not (bench.settings.lake / "t").exists()


def test_a_request_that_is_being_applied_is_not_cancelled_and_tells_what_it_did(
    bench: Bench, client: Client
) -> None:
    future = client.append("t", ROWS)
    asked: list[bool] = []
    apply = bench.router.apply

    def cancelled_too_late(group: CommitGroup) -> Performed:
        asked.append(client.cancel(future))
        return apply(group)

    bench.router.apply = cancelled_too_late  # type: ignore[method-assign]
    bench.committer.drain("t")

    assert asked == [False]
    assert future.result(10).state is State.COMMITTED
    assert not client.cancel("t", request_id=future.request_id)


def test_what_to_cancel_must_be_said_in_one_way(client: Client) -> None:
    future = client.append("t", ROWS)
    with pytest.raises(InvalidRequest, match="leave out request_id"):
        client.cancel(future, request_id=future.request_id)
    with pytest.raises(InvalidRequest, match="a table and request_id"):
        client.cancel("t")
    assert not future.done()
