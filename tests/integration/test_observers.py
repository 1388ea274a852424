"""What observers hear of a committer's work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from deltaq.client import Client, State
from deltaq.tasks import keys
from deltaq.tasks.errors import StorageUnavailable, TransientError
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.request import Lane, Request
from deltaq.tasks.settings import Settings
from deltaq.worker.groups import CommitGroup
from deltaq.worker.observers import GroupCommitted, Observer
from deltaq.worker.router import Performed
from tests.support.bench import Bench

ROWS = pa.table({"n": [1]})


@dataclass(eq=False)
class Diary(Observer):
    """Writes down what it hears."""

    heard: list[tuple[object, ...]] = field(default_factory=list)

    def group_begun(self, group: CommitGroup, *, attempt: int) -> None:
        self.heard.append(("begun", len(group.members), attempt))

    def group_committed(self, commit: GroupCommitted) -> None:
        assert commit.commit_seconds > 0
        self.heard.append(("committed", len(commit.outcomes), commit.attempt))

    def settled(self, lane: Lane, outcomes: Sequence[Outcome], requests: Sequence[Request]) -> None:
        assert [o.request_id for o in outcomes] == [r.request_id for r in requests]
        self.heard.append(("settled", lane, [str(o.state) for o in outcomes]))

    def dead_lettered(self, outcome: Outcome) -> None:
        self.heard.append(("dead", outcome.error and outcome.error.code))

    def retried(self, table: str, error: TransientError, *, pause: float) -> None:
        assert pause > 0
        self.heard.append(("retried", error.code))

    def lease_taken_over(self, table: str, *, left_by: str) -> None:
        self.heard.append(("taken over", table, left_by))

    def lease_lost(self, table: str) -> None:
        self.heard.append(("lost", table))

    def commit_fenced(self, group: CommitGroup) -> None:
        self.heard.append(("fenced", len(group.members)))


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def bench(settings: Settings, diary: Diary) -> Iterator[Bench]:
    bench = Bench(settings, observers=diary)
    yield bench
    bench.close()


def test_a_group_is_told_once_however_many_requests_it_has(
    bench: Bench, client: Client, diary: Diary
) -> None:
    for _ in range(3):
        client.append("t", ROWS)

    bench.committer.drain("t")

    committed = [str(State.COMMITTED)] * 3
    assert diary.heard == [("begun", 3, 1), ("settled", "live", committed), ("committed", 3, 1)]


def test_a_failure_and_a_second_try_are_told(bench: Bench, client: Client, diary: Diary) -> None:
    client.append("t", ROWS)
    bench.committer.drain("t")
    diary.heard.clear()

    client.append("t", pa.table({"n": ["one"]}))
    bench.failures += [StorageUnavailable("full")]
    bench.committer.drain("t")

    assert diary.heard == [
        ("begun", 1, 1),
        ("retried", "storage_unavailable"),
        ("begun", 1, 2),
        ("settled", "live", ["failed"]),
        ("dead", "schema_mismatch"),
    ]


def test_a_lease_that_was_left_is_told_by_whom_and_one_given_back_is_not(
    bench: Bench, client: Client, diary: Diary
) -> None:
    with bench.leases.take("t") as lease:
        assert lease is not None  # and the holder dies
    bench.redis.delete(keys.lease("t"))

    for _ in range(2):
        client.append("t", ROWS)
        bench.committer.drain("t")

    assert [entry for entry in diary.heard if "taken over" in entry] == [
        ("taken over", "t", "test")
    ]


def test_a_lease_lost_in_use_is_told_once(bench: Bench, client: Client, diary: Diary) -> None:
    client.append("t", ROWS)
    claim = bench.inbox.claim

    def lose_then_claim(*args: object, **options: object) -> int:
        bench.redis.hset(keys.lease("t"), "token", "somebody else's")
        return claim(*args, **options)  # type: ignore[arg-type]

    bench.inbox.claim = lose_then_claim  # type: ignore[method-assign]
    bench.committer.drain("t")

    assert diary.heard == [("lost", "t")]


def test_a_commit_that_the_table_refuses_is_told(
    bench: Bench, client: Client, diary: Diary
) -> None:
    apply = bench.router.apply

    def be_late(group: CommitGroup) -> Performed:
        """Be so slow that somebody else commits the group first."""
        bench.router.apply = apply  # type: ignore[method-assign]
        apply(group)
        return apply(group)

    client.append("t", ROWS)
    bench.router.apply = be_late  # type: ignore[method-assign]
    bench.committer.drain("t")

    assert ("fenced", 1) in diary.heard
    assert diary.heard[-1] == ("settled", "live", ["committed"])
