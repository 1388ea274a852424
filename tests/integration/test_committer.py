"""One wake-up on a real Redis and real tables, without a worker process around it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pytest

from deltaq.client import Client, DeadLettered, InvalidRequest, State
from deltaq.tasks import keys
from deltaq.tasks.errors import EngineDied, EngineUnavailable, StorageUnavailable
from deltaq.tasks.request import Lane, encode_request
from deltaq.tasks.settings import Settings, load_settings
from tests.support.bench import Bench
from tests.support.log import committed_requests, ledgers
from tests.support.requests import make_append
from tests.support.waiting import wait_until

ROWS = pa.table({"n": [1]})

pytestmark = pytest.mark.s3


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    bench = Bench(settings)
    yield bench
    bench.close()


def test_what_waits_is_committed_in_one_group_and_nothing_is_left(
    bench: Bench, client: Client
) -> None:
    futures = [client.append("t", ROWS) for _ in range(10)]

    bench.committer.drain("t")

    assert [f.result(5).version for f in futures] == [0] * 10
    assert ledgers(bench.settings.lake / "t")[0][2] == 10
    assert bench.redis.exists(keys.lease("t"), keys.wake("t"), keys.TABLES) == 0
    wait_until(lambda: not list(bench.staging.root.glob("requests/*/*")))


def test_a_commit_whose_acknowledgement_was_lost_is_read_back_and_not_repeated(
    bench: Bench, client: Client
) -> None:
    futures = [client.append("t", ROWS) for _ in range(3)]

    def die_before_acknowledging(*_: object) -> None:
        raise KeyboardInterrupt

    settlement = bench.committer._settlement
    settlement.acknowledge, kept = die_before_acknowledging, settlement.acknowledge  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        bench.committer.drain("t")
    settlement.acknowledge = kept  # type: ignore[method-assign]
    bench.redis.delete(keys.lease("t"))

    bench.committer.drain("t")

    assert [f.result(5).version for f in futures] == [0] * 3
    assert len(committed_requests(bench.settings.lake / "t")) == 3


def test_sequences_given_out_twice_are_not_taken_for_committed(
    bench: Bench, client: Client
) -> None:
    for _ in range(3):
        client.append("t", ROWS)
    bench.committer.drain("t")
    # Redis comes back as it was before those three: same epoch, older counter.
    bench.redis.hset(keys.seq("t"), mapping={"live": 0, "claimed:live": 0})
    bench.redis.delete(keys.inbox("t", Lane.LIVE))

    futures = [client.append("t", pa.table({"n": [n]})) for n in (10, 11)]
    bench.committer.drain("t")

    assert [f.result(5).sequence for f in futures] == [4, 5]
    assert len(committed_requests(bench.settings.lake / "t")) == 5


def test_a_request_cancelled_between_reading_and_claiming_is_not_applied(
    bench: Bench, client: Client
) -> None:
    first, second = client.append("t", ROWS), client.append("t", ROWS)
    claim = bench.inbox.claim

    def cancel_then_claim(*args: object, **options: object) -> int:
        bench.inbox.claim = claim  # type: ignore[method-assign]
        assert first.cancel()
        return claim(*args, **options)  # type: ignore[arg-type]

    bench.inbox.claim = cancel_then_claim  # type: ignore[method-assign]
    bench.committer.drain("t")

    assert second.result(5).state is State.COMMITTED
    committed = committed_requests(bench.settings.lake / "t")
    assert [r[2] for r in committed] == [second.request_id]


def test_a_retryable_failure_keeps_order_and_is_tried_again(
    bench: Bench, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    futures = [client.append("t", pa.table({"n": [n]})) for n in range(3)]
    bench.failures += [StorageUnavailable("full"), StorageUnavailable("table t: still full")]

    bench.committer.drain("t")

    assert [f.result(5).sequence for f in futures] == [1, 2, 3]
    assert futures[0].result().attempt == 3
    said = [line.partition(";")[0] for line in caplog.messages if "trying again" in line]
    assert said == ["table t: full", "table t: still full"]


def test_a_table_that_waits_for_spark_gives_its_slot_back(bench: Bench, client: Client) -> None:
    future = client.append("t", ROWS)
    bench.failures.append(EngineUnavailable("warming"))

    bench.committer.drain("t")

    assert not future.done()
    assert bench.redis.exists(keys.lease("t")) == 0
    assert bench.inbox.forgotten(dict.fromkeys(Lane, 0.0)) == {Lane.LIVE: ["t"]}
    bench.committer.drain("t")
    assert future.result(5).state is State.COMMITTED


def test_a_stop_between_two_groups_hands_the_rest_back(bench: Bench, client: Client) -> None:
    client.append("t", ROWS)
    bench.stopping.set()

    bench.committer.drain("t")

    assert bench.rung == [("t", Lane.LIVE)]
    assert bench.redis.exists(keys.lease("t")) == 0


def test_live_goes_before_bulk_and_bulk_does_not_starve(bench: Bench, client: Client) -> None:
    bulk = [client.overwrite("t", ROWS, lane="bulk") for _ in range(2)]
    live = [client.overwrite("t", ROWS) for _ in range(12)]

    bench.committer.drain("t")

    order = [(g.lane, g.sequence) for g in bench.router.applied]
    assert order[0] == (Lane.LIVE, 1)
    assert order.index((Lane.BULK, 1)) < order.index((Lane.LIVE, 12))
    assert all(f.result(5).state is State.COMMITTED for f in live + bulk)


@pytest.mark.parametrize(
    "wire",
    [
        b"not json",
        b"{}",
        encode_request(make_append("other")),
        encode_request(make_append("t", lane=Lane.BULK)),
        encode_request(make_append("t")).replace(b'"v":1', b'"v":99'),
        encode_request(make_append("t")).replace(b'"table":"t"', b'"table":"../t"'),
    ],
)
def test_an_entry_that_is_no_request_of_the_table_is_refused_and_the_rest_goes_on(
    bench: Bench, client: Client, wire: bytes
) -> None:
    first = client.append("t", ROWS)
    bench.redis.xadd(keys.inbox("t", Lane.LIVE), {"r": wire}, id="2-0")
    bench.redis.hset(keys.seq("t"), "live", 2)
    last = client.append("t", ROWS)

    bench.committer.drain("t")

    assert [f.result(5).sequence for f in (first, last)] == [1, 3]


def test_a_request_from_a_newer_client_is_answered_with_what_to_do(
    bench: Bench, settings: Settings
) -> None:
    request = make_append("t")
    wire = encode_request(request).replace(b'"v":1', b'"v":99')
    bench.redis.xadd(keys.inbox("t", Lane.LIVE), {"r": wire}, id="1-0")

    bench.committer.drain("t")

    (outcome,) = bench.inbox.outcomes([("t", request.request_id)])
    assert outcome is not None
    assert not isinstance(outcome, State)
    error = outcome.as_error()
    assert isinstance(error, InvalidRequest)
    assert "upgrade the workers" in error.message


def test_what_an_engine_raises_by_mistake_gives_up_its_cause_alone_at_the_third_time(
    bench: Bench, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    futures = [client.append("t", pa.table({"n": [n]})) for n in range(5)]
    bench.router.poison = futures[2].request_id

    bench.committer.drain("t")

    outcomes = [f.result(5) for n, f in enumerate(futures) if n != 2]
    assert [o.sequence for o in outcomes] == [1, 2, 4, 5]
    assert [o.attempt for o in outcomes] == [3, 3, 3, 3]
    with pytest.raises(DeadLettered, match="ZeroDivisionError: of request") as caught:
        futures[2].result(5)
    assert caught.value.details["crashes"] == 3
    tried = [[m.sequence for m in g.members] for g in bench.router.applied]
    assert tried == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1], [2], [3], [4, 5]]
    assert "Traceback" in caplog.text
    assert bench.staging.dead_path("t", futures[2].request_id).exists()
    assert bench.redis.exists(keys.lease("t")) == 0


def test_what_is_in_the_table_although_the_engine_raised_is_not_tried_again(
    bench: Bench, client: Client
) -> None:
    future = client.append("t", ROWS)
    bench.router.then_raise = ZeroDivisionError("after the commit")

    bench.committer.drain("t")

    assert future.result(5).version == 0
    assert len(committed_requests(bench.settings.lake / "t")) == 1


def test_the_end_of_an_engine_counts_as_a_crash_and_its_warming_does_not(
    bench: Bench, client: Client
) -> None:
    future = client.append("t", ROWS)
    for _ in range(5):
        bench.failures += [EngineUnavailable("warming"), StorageUnavailable("gone")]
    bench.failures += [EngineDied("the JVM died")] * 3

    while not future.done() and bench.failures:
        bench.committer.drain("t")
    bench.committer.drain("t")

    with pytest.raises(DeadLettered, match="the JVM died"):
        future.result(5)
    assert not bench.failures


def test_waiting_for_spark_is_no_attempt(bench: Bench, client: Client) -> None:
    futures = [client.append("t", ROWS) for _ in range(2)]
    bench.failures += [EngineUnavailable("warming")] * 3 + [EngineDied("deploy")] * 2
    bench.failures += [EngineUnavailable("warming")] * 3

    while bench.failures:
        bench.committer.drain("t")
    bench.committer.drain("t")

    assert [f.result(5).attempt for f in futures] == [3, 3]


def test_crashes_of_ordinary_requests_are_forgotten_once_they_are_committed(
    bench: Bench, client: Client
) -> None:
    for _ in range(5):
        future = client.append("t", ROWS)
        bench.failures += [EngineDied("deploy"), EngineDied("deploy")]
        for _ in range(3):
            bench.committer.drain("t")
        assert future.result(5).attempt == 3


def test_trouble_that_lasts_longer_than_a_turn_gives_the_slot_back_until_the_next_try(
    settings: Settings, client: Client
) -> None:
    hasty = load_settings(**settings.model_dump(exclude_unset=True), time_slice=0.001)
    bench = Bench(hasty)
    future = client.append("t", ROWS)
    bench.failures.append(StorageUnavailable("full"))

    bench.committer.drain("t")

    assert bench.redis.exists(keys.lease("t")) == 0
    assert bench.rung == []
    retry = json.loads(str(bench.redis.hget(keys.seq("t"), "retry")))
    assert (retry["tries"], retry["error"]) == (1, "full")
    wait_until(lambda: bench.inbox.forgotten(dict.fromkeys(Lane, 0.0)) == {Lane.LIVE: ["t"]})
    bench.committer.drain("t")
    assert future.result(5).attempt == 2
    assert not bench.redis.hexists(keys.seq("t"), "retry")
    bench.close()


def test_a_worker_whose_memory_is_nearly_used_commits_smaller_groups(
    settings: Settings, client: Client
) -> None:
    anxious = load_settings(
        **settings.model_dump(exclude_unset=True), memory_high=0.0001, group_max_requests=10
    )
    bench = Bench(anxious)
    futures = [client.append("t", ROWS) for _ in range(10)]

    bench.committer.drain("t")

    assert all(f.result(5).state is State.COMMITTED for f in futures)
    assert max(len(g.members) for g in bench.router.applied) < 10
    bench.close()
