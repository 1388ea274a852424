"""The Lua scripts and their callers, against a real server."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from deltaq.tasks import keys
from deltaq.tasks.calls import unapplied
from deltaq.tasks.connection import Scripts, connect
from deltaq.tasks.entries import Settled
from deltaq.tasks.errors import LeaseLost, QueueFull, RequestIdConflict
from deltaq.tasks.inbox import LANES, Inbox
from deltaq.tasks.outcome import Outcome, State, decode_outcomes
from deltaq.tasks.request import Append, Lane, decode_request, new_request_id
from deltaq.tasks.settings import Settings

CLIENT = uuid.uuid4().hex
TABLE = "prices"
AT_ONCE = dict.fromkeys(LANES, 0.0)


@pytest.fixture
def queue(settings: Settings) -> Iterator[redis.Redis]:
    with connect(settings) as client:
        yield client


@pytest.fixture
def inbox(queue: redis.Redis, settings: Settings) -> Inbox:
    return Inbox(queue, settings)


@pytest.fixture
def scripts(queue: redis.Redis) -> Scripts:
    return Scripts(queue)


def append(
    request_id: str | None = None,
    *,
    digest: str = "d",
    size_bytes: int = 100,
    lane: Lane = Lane.LIVE,
) -> Append:
    return Append(
        request_id=request_id or new_request_id(),
        table=TABLE,
        lane=lane,
        client_id=CLIENT,
        submitted_at_ms=0,
        digest=digest,
        size_bytes=size_bytes,
        rows=1,
        shape="s",
    )


@contextlib.contextmanager
def listening(queue: redis.Redis) -> Iterator[Any]:
    with queue.pubsub(ignore_subscribe_messages=True) as heard:  # type: ignore[no-untyped-call]
        heard.subscribe(keys.client_channel(CLIENT))
        heard.get_message(timeout=5)
        yield heard


def take(scripts: Scripts, token: str, *, ttl_ms: int = 60_000) -> tuple[int, str]:
    fence, epoch, _left_by = scripts.run(
        "take", [keys.lease(TABLE), keys.seq(TABLE), keys.wake(TABLE)], [token, ttl_ms, "test"]
    )
    return fence, epoch


def renew(scripts: Scripts, token: str) -> int:
    return int(scripts.run("renew", [keys.lease(TABLE)], [token, 60_000]))


def release(
    scripts: Scripts, token: str, *, force: bool = False, served: tuple[Lane, ...] = LANES
) -> list[str]:
    lanes = [*served, *(lane for lane in LANES if lane not in served)]
    reply = scripts.run(
        "release",
        [
            keys.lease(TABLE),
            keys.wake(TABLE),
            keys.TABLES,
            keys.seq(TABLE),
            *(keys.inbox(TABLE, x) for x in lanes),
        ],
        [token, TABLE, int(force), len(served), *lanes],
    )
    return list(reply)


def committed(request: Append, version: int = 1) -> Outcome:
    return Outcome(
        request_id=request.request_id,
        table=request.table,
        operation="append",
        state=State.COMMITTED,
        version=version,
    )


def settled(request: Append) -> Settled:
    return Settled(
        outcome=committed(request), client_id=request.client_id, size_bytes=request.size_bytes
    )


def test_sequences_count_up_within_a_lane(inbox: Inbox) -> None:
    live = [inbox.submit(append()).sequence for _ in range(3)]
    bulk = inbox.submit(append(lane=Lane.BULK)).sequence
    assert (live, bulk) == ([1, 2, 3], 1)


def test_a_request_comes_out_as_it_went_in(inbox: Inbox) -> None:
    request = append()
    inbox.submit(request)
    [entry] = inbox.peek(TABLE, Lane.LIVE, count=10)
    assert entry.sequence == 1
    assert decode_request(entry.wire) == request


def test_only_the_first_submission_to_a_sleeping_lane_rings(inbox: Inbox) -> None:
    assert inbox.submit(append()).ring
    assert not inbox.submit(append()).ring
    assert inbox.submit(append(lane=Lane.BULK)).ring


def test_a_request_submitted_twice_is_queued_once(inbox: Inbox) -> None:
    request = append()
    first, second = inbox.submit(request), inbox.submit(request)
    assert (second.sequence, second.known, second.ring) == (first.sequence, True, True)
    assert len(inbox.peek(TABLE, Lane.LIVE, count=10)) == 1


def test_the_same_id_with_other_content_is_a_conflict(inbox: Inbox) -> None:
    request = append()
    inbox.submit(request)
    with pytest.raises(RequestIdConflict, match=request.request_id):
        inbox.submit(append(request.request_id, digest="other"))
    assert len(inbox.peek(TABLE, Lane.LIVE, count=10)) == 1


def test_a_settled_request_submitted_again_gets_its_outcome(inbox: Inbox, scripts: Scripts) -> None:
    request = append()
    inbox.submit(request)
    take(scripts, "a")
    inbox.acknowledge(TABLE, Lane.LIVE, [settled(request)], upto=1, token="a")
    again = inbox.submit(request)
    assert (again.known, again.ring, again.outcome) == (True, False, committed(request))


def test_a_lane_holds_no_more_requests_than_allowed(queue: redis.Redis, settings: Settings) -> None:
    inbox = Inbox(queue, settings.model_copy(update={"inbox_max_requests": 2}))
    inbox.submit(append())
    inbox.submit(append())
    with pytest.raises(QueueFull) as caught:
        inbox.submit(append())
    assert caught.value.details == {
        "waiting": 2,
        "waiting_bytes": 200,
        "max_requests": 2,
        "max_bytes": settings.inbox_max_bytes,
    }


def test_a_lane_holds_no_more_bytes_than_allowed_but_one_large_request(
    queue: redis.Redis, settings: Settings
) -> None:
    inbox = Inbox(queue, settings.model_copy(update={"inbox_max_bytes": 150}))
    inbox.submit(append(size_bytes=1000))
    with pytest.raises(QueueFull):
        inbox.submit(append(size_bytes=1))


def test_acknowledging_frees_the_bytes_of_a_lane(
    queue: redis.Redis, scripts: Scripts, settings: Settings
) -> None:
    inbox = Inbox(queue, settings.model_copy(update={"inbox_max_bytes": 150}))
    first = append()
    inbox.submit(first)
    take(scripts, "a")
    inbox.acknowledge(TABLE, Lane.LIVE, [settled(first)], upto=1, token="a")
    assert inbox.submit(append()).sequence == 2


def test_a_lease_has_one_holder_until_it_is_released(scripts: Scripts) -> None:
    assert take(scripts, "a") == (1, "")
    assert take(scripts, "a") == (1, "")
    assert take(scripts, "b") == (0, "")
    assert release(scripts, "a") == ["released"]
    assert take(scripts, "b")[0] == 2


def test_a_lease_comes_with_the_epoch_of_the_sequences(
    inbox: Inbox, scripts: Scripts, queue: redis.Redis
) -> None:
    inbox.submit(append())
    take(scripts, "a")
    run_id = queue.info("server")["run_id"]
    scripts.run("vouch", [keys.lease(TABLE), keys.seq(TABLE)], ["a", run_id, "", "unused"])
    epoch = take(scripts, "a")[1]
    assert epoch == queue.hget(keys.seq(TABLE), "epoch")
    assert len(epoch) == 16


def test_only_the_holder_renews_a_lease(scripts: Scripts, queue: redis.Redis) -> None:
    take(scripts, "a", ttl_ms=1000)
    assert renew(scripts, "b") == 0
    assert renew(scripts, "a") == 1
    assert int(str(queue.pttl(keys.lease(TABLE)))) > 1000


def test_a_lease_is_kept_while_a_served_lane_has_work(inbox: Inbox, scripts: Scripts) -> None:
    inbox.submit(append())
    take(scripts, "a")
    assert release(scripts, "a") == ["busy", "live"]
    assert take(scripts, "b")[0] == 0


def test_a_lease_given_up_early_tells_which_lanes_to_ring(inbox: Inbox, scripts: Scripts) -> None:
    inbox.submit(append())
    take(scripts, "a")
    assert release(scripts, "a", force=True) == ["released", "live"]
    assert take(scripts, "b")[0] == 2


def test_a_lane_that_the_holder_does_not_serve_does_not_keep_the_lease(
    inbox: Inbox, scripts: Scripts, queue: redis.Redis
) -> None:
    inbox.submit(append(lane=Lane.BULK))
    take(scripts, "a")
    assert release(scripts, "a", served=(Lane.LIVE,)) == ["released", "bulk"]
    # Its wake-up is still on its way to a worker that serves it.
    assert list(queue.hgetall(keys.wake(TABLE))) == ["bulk"]
    assert queue.smembers(keys.TABLES) == {TABLE}


def test_after_a_release_the_next_submission_rings(
    inbox: Inbox, scripts: Scripts, queue: redis.Redis
) -> None:
    request = append()
    inbox.submit(request)
    take(scripts, "a")
    inbox.acknowledge(TABLE, Lane.LIVE, [settled(request)], upto=1, token="a")
    assert release(scripts, "a") == ["released"]
    assert not queue.exists(keys.TABLES)
    assert inbox.submit(append()).ring


def test_nobody_else_releases_a_lease(scripts: Scripts) -> None:
    take(scripts, "a")
    assert release(scripts, "b") == ["lost"]


def test_each_claim_of_a_request_is_an_attempt(inbox: Inbox, scripts: Scripts) -> None:
    for _ in range(3):
        inbox.submit(append())
    take(scripts, "a")
    assert inbox.claim(TABLE, Lane.LIVE, [1, 2, 3], token="a") == 1
    assert inbox.claim(TABLE, Lane.LIVE, [1, 2], token="a") == 2
    assert inbox.claim(TABLE, Lane.LIVE, [3], token="a") == 2


def test_a_claim_without_the_lease_is_refused(inbox: Inbox, scripts: Scripts) -> None:
    inbox.submit(append())
    take(scripts, "a")
    with pytest.raises(LeaseLost, match=TABLE):
        inbox.claim(TABLE, Lane.LIVE, [1], token="b")


def test_a_claim_notices_that_a_request_was_cancelled(inbox: Inbox, scripts: Scripts) -> None:
    first, second = append(), append()
    inbox.submit(first)
    inbox.submit(second)
    take(scripts, "a")
    assert inbox.cancel(second, reason=unapplied(second, State.CANCELLED)) is State.CANCELLED
    assert inbox.claim(TABLE, Lane.LIVE, [1, 2], token="a") == 0


def test_a_cancelled_request_is_gone_and_its_client_hears_of_it(
    inbox: Inbox, queue: redis.Redis
) -> None:
    request = append()
    inbox.submit(request)
    with listening(queue) as heard:
        assert inbox.cancel(request, reason=unapplied(request, State.CANCELLED)) is State.CANCELLED
        message = heard.get_message(timeout=5)
    assert message is not None
    assert decode_outcomes(message["data"]) == [unapplied(request, State.CANCELLED)]
    assert inbox.peek(TABLE, Lane.LIVE, count=1) == []
    assert queue.hget(keys.seq(TABLE), "bytes:live") == "0"
    assert inbox.outcomes([(TABLE, request.request_id)]) == [unapplied(request, State.CANCELLED)]


def test_a_claimed_request_cannot_be_cancelled_even_when_the_lease_is_gone(
    inbox: Inbox, scripts: Scripts
) -> None:
    request = append()
    inbox.submit(request)
    take(scripts, "a")
    inbox.claim(TABLE, Lane.LIVE, [1], token="a")
    release(scripts, "a", force=True)
    assert inbox.cancel(request, reason=unapplied(request, State.CANCELLED)) is State.QUEUED


def test_cancelling_tells_the_state_of_what_is_settled_or_unknown(
    inbox: Inbox, scripts: Scripts
) -> None:
    request = append()
    assert inbox.cancel(request, reason=unapplied(request, State.CANCELLED)) is None
    inbox.submit(request)
    take(scripts, "a")
    inbox.acknowledge(TABLE, Lane.LIVE, [settled(request)], upto=1, token="a")
    assert inbox.cancel(request, reason=unapplied(request, State.CANCELLED)) is State.COMMITTED


def test_acknowledging_removes_the_requests_and_tells_each_client_once(
    inbox: Inbox, scripts: Scripts, queue: redis.Redis, settings: Settings
) -> None:
    requests = [append() for _ in range(3)]
    for request in requests:
        inbox.submit(request)
    take(scripts, "a")
    with listening(queue) as heard:
        done = [settled(request) for request in requests[:2]]
        inbox.acknowledge(TABLE, Lane.LIVE, done, upto=2, token="a")
        message = heard.get_message(timeout=5)
    assert message is not None
    assert decode_outcomes(message["data"]) == [committed(r) for r in requests[:2]]
    assert [e.sequence for e in inbox.peek(TABLE, Lane.LIVE, count=10)] == [3]
    ids = [(TABLE, r.request_id) for r in requests]
    assert inbox.outcomes([*ids, (TABLE, "unknown")]) == [
        committed(requests[0]),
        committed(requests[1]),
        State.QUEUED,
        None,
    ]
    ttl = int(str(queue.ttl(keys.request(TABLE, requests[0].request_id))))
    assert settings.outcome_ttl - 10 < ttl <= settings.outcome_ttl
    assert queue.ttl(keys.request(TABLE, requests[2].request_id)) == -1


def test_acknowledging_again_after_a_lost_reply_changes_nothing(
    inbox: Inbox, scripts: Scripts, queue: redis.Redis
) -> None:
    first, second = append(), append()
    inbox.submit(first)
    inbox.submit(second)
    take(scripts, "a")
    for _ in range(2):
        inbox.acknowledge(TABLE, Lane.LIVE, [settled(first)], upto=1, token="a")
    assert queue.hget(keys.seq(TABLE), "bytes:live") == "100"
    assert [e.sequence for e in inbox.peek(TABLE, Lane.LIVE, count=10)] == [2]


def test_acknowledging_without_the_lease_is_refused(inbox: Inbox, scripts: Scripts) -> None:
    request = append()
    inbox.submit(request)
    take(scripts, "a")
    with pytest.raises(LeaseLost, match=TABLE):
        inbox.acknowledge(TABLE, Lane.LIVE, [settled(request)], upto=1, token="b")
    assert len(inbox.peek(TABLE, Lane.LIVE, count=10)) == 1


def test_what_waits_is_moved_above_a_sequence_in_the_same_order(
    inbox: Inbox, scripts: Scripts, queue: redis.Redis
) -> None:
    requests = [append() for _ in range(3)]
    for request in requests:
        inbox.submit(request)
    take(scripts, "a")
    assert inbox.resequence(TABLE, Lane.LIVE, above=100, token="a") == 3
    entries = inbox.peek(TABLE, Lane.LIVE, count=10)
    assert [e.sequence for e in entries] == [101, 102, 103]
    assert [decode_request(e.wire) for e in entries] == requests
    assert inbox.submit(requests[0]).sequence == 101
    assert inbox.submit(append()).sequence == 104
    with pytest.raises(LeaseLost, match=TABLE):
        inbox.resequence(TABLE, Lane.LIVE, above=200, token="b")


def test_the_answer_to_a_query_is_kept_and_published(inbox: Inbox, queue: redis.Redis) -> None:
    answer = Outcome(
        request_id=new_request_id(), table="*", operation="tables", state=State.COMMITTED, value=[]
    )
    with listening(queue) as heard:
        inbox.settle(CLIENT, answer, keep=60.0)
        message = heard.get_message(timeout=5)
    assert message is not None
    assert decode_outcomes(message["data"]) == [answer]
    assert inbox.outcomes([("*", answer.request_id)]) == [answer]


def test_forgotten_lanes_are_those_with_work_and_no_holder(inbox: Inbox, scripts: Scripts) -> None:
    inbox.submit(append())
    inbox.submit(append(lane=Lane.MAINTENANCE))
    assert inbox.forgotten(AT_ONCE) == {Lane.LIVE: [TABLE], Lane.MAINTENANCE: [TABLE]}
    take(scripts, "a")
    assert inbox.forgotten(AT_ONCE) == {}


def test_at_its_memory_limit_redis_takes_no_request_but_lets_workers_drain(
    inbox: Inbox, scripts: Scripts, queue: redis.Redis
) -> None:
    first, second = append(), append()
    inbox.submit(first)
    inbox.submit(second)
    queue.config_set("maxmemory", 1)
    with pytest.raises(QueueFull, match="memory limit"):
        inbox.submit(append())
    assert take(scripts, "a")[0] == 1
    assert renew(scripts, "a") == 1
    assert inbox.claim(TABLE, Lane.LIVE, [1], token="a") == 1
    assert inbox.cancel(second, reason=unapplied(second, State.CANCELLED)) is State.CANCELLED
    inbox.acknowledge(TABLE, Lane.LIVE, [settled(first)], upto=1, token="a")
    assert release(scripts, "a") == ["released"]
    assert inbox.outcomes([(TABLE, first.request_id)]) == [committed(first)]


def test_scripts_are_loaded_again_after_redis_forgot_them(inbox: Inbox, queue: redis.Redis) -> None:
    inbox.submit(append())
    queue.script_flush()
    assert inbox.submit(append()).sequence == 2


def test_ten_thousand_queued_requests_cost_redis_less_than_20_mb(
    inbox: Inbox, queue: redis.Redis
) -> None:
    before = queue.info("memory")["used_memory"]
    for _ in range(10_000):
        inbox.submit(append(digest=uuid.uuid4().hex))
    assert queue.info("memory")["used_memory"] - before < 20e6
