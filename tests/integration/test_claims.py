"""What Redis remembers of the requests that committers had in hand, and how they ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deltaq.tasks import keys
from deltaq.tasks.connection import connect
from deltaq.tasks.errors import LeaseLost
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings
from deltaq.worker.groups import Claims
from deltaq.worker.lease import Lease, Leases
from tests.support.requests import make_append

TABLE = "prices"


class Workers:
    """Holders of one table's lease, one after another."""

    def __init__(self, settings: Settings) -> None:
        self.redis = connect(settings)
        self.inbox = Inbox(self.redis, settings)
        self._leases = Leases(self.redis, settings, holder="test")

    def take(self) -> Lease:
        """Take the lease, whoever had it; nobody renews it."""
        self.redis.delete(keys.lease(TABLE))
        with self._leases.take(TABLE) as lease:
            assert lease is not None
        return lease

    def claim(self, lease: Lease, *sequences: int, attempt: int = 0) -> int:
        return self.inbox.claim(TABLE, Lane.LIVE, sequences, token=lease.token, attempt=attempt)

    def unclaim(self, lease: Lease, crash: str = "") -> int:
        return self.inbox.unclaim(TABLE, Lane.LIVE, token=lease.token, crash=crash)

    def acknowledge(self, lease: Lease, upto: int) -> None:
        self.inbox.acknowledge(TABLE, Lane.LIVE, [], upto=upto, token=lease.token)

    def crash(self, *sequences: int) -> None:
        """Claim and say no more."""
        self.claim(self.take(), *sequences)

    def close(self) -> None:
        self._leases.close()
        self.redis.close()


@pytest.fixture
def workers(settings: Settings) -> Iterator[Workers]:
    workers = Workers(settings)
    for _ in range(9):
        workers.inbox.submit(make_append(TABLE))
    yield workers
    workers.close()


def live(lease: Lease) -> Claims:
    return lease.claims[Lane.LIVE]


def test_a_claim_that_is_open_when_the_lease_is_taken_again_is_a_crash(workers: Workers) -> None:
    workers.crash(1, 2, 3)
    assert live(workers.take()) == Claims(upto=3, began=1, attempt=1, crashes=1)
    assert live(workers.take()).crashes == 1  # that one had claimed nothing
    workers.crash(1, 2, 3)
    workers.crash(1)
    assert live(workers.take()) == Claims(upto=3, began=1, attempt=3, crashes=3)


def test_a_crash_in_another_lane_is_kept_apart(workers: Workers) -> None:
    workers.crash(1)

    lease = workers.take()

    assert lease.claims[Lane.BULK] == Claims()


@pytest.mark.parametrize("end", ["acknowledged", "unclaimed"])
def test_a_claim_that_ended_is_no_crash(workers: Workers, end: str) -> None:
    lease = workers.take()
    workers.claim(lease, 1, 2)
    if end == "acknowledged":
        workers.acknowledge(lease, 2)
    else:
        workers.unclaim(lease)

    assert live(workers.take()).crashes == 0


def test_a_holder_that_was_away_and_comes_back_takes_its_crash_back(workers: Workers) -> None:
    away = workers.take()
    workers.claim(away, 1, 2)
    workers.crash(1, 2)
    assert live(workers.take()).crashes == 2

    assert workers.unclaim(away) == 1

    assert live(workers.take()).crashes == 1


def test_an_end_of_the_engine_counts_even_though_its_worker_lives(workers: Workers) -> None:
    lease = workers.take()
    workers.claim(lease, 1, 2)
    assert workers.unclaim(lease, crash="the JVM died") == 1
    assert workers.unclaim(lease, crash="twice") == 1  # nothing is claimed
    workers.claim(lease, 1, 2)
    assert workers.unclaim(lease, crash="the JVM died again") == 2

    claims = live(workers.take())

    assert (claims.crashes, claims.cause) == (2, "the JVM died again")


def test_requests_behind_the_suspects_begin_with_a_clean_slate(workers: Workers) -> None:
    workers.crash(1, 2, 3)
    lease = workers.take()
    workers.claim(lease, 1, 2, 3)
    workers.acknowledge(lease, 3)

    assert workers.claim(lease, 4, 5) == 1

    assert live(workers.take()).crashes == 1  # its own


def test_suspicion_stays_on_those_behind_one_that_got_through(workers: Workers) -> None:
    workers.crash(1, 2, 3)
    workers.crash(1, 2, 3)
    lease = workers.take()
    workers.claim(lease, 1)
    workers.acknowledge(lease, 1)

    workers.claim(lease, 2)

    assert live(workers.take()).crashes == 3


def test_nothing_is_held_against_those_behind_the_one_that_was_found_out(workers: Workers) -> None:
    workers.crash(1, 2, 3)
    workers.crash(1, 2, 3)
    workers.crash(1)
    lease = workers.take()
    workers.acknowledge(lease, 1)  # given up

    workers.claim(lease, 2, 3)

    assert live(workers.take()).crashes == 1


def test_attempts_are_counted_for_each_request(workers: Workers) -> None:
    lease = workers.take()
    assert workers.claim(lease, 1, 2, 3, 4) == 1
    assert workers.claim(lease, 1, 2, 3, 4) == 2
    assert workers.claim(lease, 1) == 3
    assert workers.claim(lease, 2) == 3
    assert workers.claim(lease, 2) == 4
    assert workers.claim(lease, 3) == 3
    assert workers.claim(lease, 5, 6) == 1
    # A committer that halves a group knows better than Redis can.
    assert workers.claim(lease, 5, attempt=2) == 2
    assert workers.claim(lease, 6, attempt=2) == 2
    assert workers.claim(lease, 6) == 3


def test_a_retry_is_noted_until_the_next_acknowledgement(workers: Workers) -> None:
    lease = workers.take()
    pauses = [
        workers.inbox.note_retry(TABLE, "full", first=0.1, longest=1.0, token=lease.token)
        for _ in range(6)
    ]

    assert 0.1 <= pauses[0] <= 0.2 <= pauses[1] <= 0.4 <= pauses[2] <= 0.8
    assert all(0.5 <= pause <= 1.0 for pause in pauses[3:])
    workers.acknowledge(lease, 1)
    assert not workers.redis.hexists(keys.seq(TABLE), "retry")


def test_waiting_without_a_pause_makes_no_later_pause_longer(workers: Workers) -> None:
    lease = workers.take()
    for _ in range(10):
        workers.inbox.note_retry(TABLE, "Spark warms", first=0.1, longest=0, token=lease.token)

    assert workers.inbox.note_retry(TABLE, "full", first=0.1, longest=9, token=lease.token) <= 0.2


def test_a_table_is_not_forgotten_before_its_next_try_is_due(workers: Workers) -> None:
    lease = workers.take()
    workers.inbox.note_retry(TABLE, "full", first=30.0, longest=60.0, token=lease.token)
    workers.redis.delete(keys.lease(TABLE))
    assert workers.inbox.forgotten(dict.fromkeys(Lane, 0.0)) == {}

    lease = workers.take()
    workers.inbox.note_retry(TABLE, "Spark warms", first=0.1, longest=0.0, token=lease.token)
    workers.redis.delete(keys.lease(TABLE))
    assert workers.inbox.forgotten(dict.fromkeys(Lane, 0.0)) == {Lane.LIVE: [TABLE]}


def test_only_the_holder_notes_a_retry(workers: Workers) -> None:
    workers.take()
    with pytest.raises(LeaseLost):
        workers.inbox.note_retry(TABLE, "full", first=0.1, longest=1.0, token="other")


def test_at_its_memory_limit_redis_lets_claims_end_and_retries_be_noted(workers: Workers) -> None:
    workers.redis.config_set("maxmemory", 1)

    workers.crash(1, 2)
    lease = workers.take()
    assert live(lease).crashes == 1
    assert workers.claim(lease, 1, 2) == 2
    assert workers.unclaim(lease, crash="the JVM died") == 2
    workers.inbox.note_retry(TABLE, "full", first=0.1, longest=1.0, token=lease.token)
    workers.acknowledge(lease, 2)

    assert [e.sequence for e in workers.inbox.peek(TABLE, Lane.LIVE, count=2)] == [3, 4]
