"""Redis forgets, wholly or in part, between any two steps; tables and staged files do not."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deltaq.client import Client, Future, Outcome, SchemaMismatch, State
from deltaq.tasks import keys
from deltaq.tasks.connection import connect
from deltaq.tasks.errors import CommitConflict, LeaseLost, RequestIdConflict
from deltaq.tasks.inbox import LANES, Inbox
from deltaq.tasks.location import move
from deltaq.tasks.memory import Memory
from deltaq.tasks.request import Lane, new_request_id
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.committer import Committer
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.found import Action
from deltaq.worker.groups import CommitGroup
from deltaq.worker.lake import Lake
from deltaq.worker.lease import Leases
from deltaq.worker.outcomes import Settlement
from deltaq.worker.recovery import Recovery
from deltaq.worker.remover import Remover
from deltaq.worker.router import Performed, Router
from tests.support.log import committed_requests
from tests.support.paths import as_path
from tests.support.redis import RedisServer
from tests.support.requests import make_append, stage
from tests.support.sweeping import make_recovery, make_sweeper

ROWS = pa.table({"n": [1]})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings under which a restoration does not wait long for others."""
    return settings.model_copy(update={"lease_ttl": 1.0})


def ignore(_: CommitGroup) -> None:
    """Let it go on."""


class WatchedRouter(Router):
    """A real router that calls back before and after it applies a group."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.before: Callable[[CommitGroup], object] = ignore
        self.after: Callable[[CommitGroup], object] = ignore

    def apply(self, group: CommitGroup) -> Performed:
        self.before(group)
        performed = super().apply(group)
        self.after(group)
        return performed


class Bench:
    """A committer that works when told, and what it works on."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.redis = connect(settings)
        self.inbox = Inbox(self.redis, settings)
        self.memory = Memory(self.redis, settings)
        self.leases = Leases(self.redis, settings, holder="test")
        self.staging = StagingArea(settings.staging_root)
        self.remover = Remover(self.staging)
        self.recovery: Recovery = make_recovery(self.redis, settings)
        lake = Lake(settings.lake)
        self.router = WatchedRouter(
            native=NativeEngine(lake, self.staging), spark=None, settings=settings
        )
        self.committer = Committer(
            inbox=self.inbox,
            leases=self.leases,
            router=self.router,
            lake=lake,
            settlement=Settlement(self.inbox, self.staging, self.remover),
            recovery=self.recovery,
            settings=settings,
            lanes=LANES,
            ring=lambda *_: None,
            stopping=threading.Event(),
        )

    def committed(self, table: str = "t") -> list[str]:
        """List the request ids in the table's log, in order."""
        return [request_id for *_, request_id in committed_requests(self.settings.lake / table)]

    def staged(self) -> list[str]:
        self.remover.close()  # what is settled is gone
        return sorted(f.stem for f in self.staging.root.glob("requests/*/*.parquet"))

    def close(self) -> None:
        self.leases.close()
        self.redis.close()


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    bench = Bench(settings)
    yield bench
    bench.close()


def append(client: Client, count: int, table: str = "t", **options: Any) -> list[Future[Outcome]]:
    return [client.append(table, ROWS, **options) for _ in range(count)]


def ids(futures: list[Future[Outcome]]) -> list[str]:
    return [f.request_id for f in futures]


def test_after_redis_was_emptied_each_request_is_committed_once_and_in_order(
    bench: Bench, client: Client
) -> None:
    committed = append(client, 3)
    bench.committer.drain("t")
    waiting = append(client, 3)
    bench.redis.flushall()
    new = append(client, 2)

    bench.committer.drain("t")

    assert bench.committed() == ids(committed + waiting + new)
    assert [f.result(10).version for f in waiting + new] == [1] * 5
    assert bench.staged() == []


def test_a_request_that_was_committed_before_redis_was_emptied_gets_its_version_when_it_comes_again(
    bench: Bench, client: Client
) -> None:
    first, second = append(client, 2)
    bench.committer.drain("t")
    bench.redis.flushall()

    queued = client.append("t", ROWS, request_id=first.request_id)
    new = client.append("t", ROWS)
    bench.committer.drain("t")
    known = client.append("t", ROWS, request_id=second.request_id)

    assert queued.result(10).version == 0
    assert known.result(10).version == 0
    assert known.result().operation == "append"
    assert new.result(10).version == 1
    assert bench.committed() == ids([first, second, new])
    assert bench.redis.hget(keys.seq("t"), "bytes:live") == "0"
    assert bench.staged() == []


def test_a_digest_still_tells_two_requests_apart_where_redis_has_one(
    bench: Bench, client: Client
) -> None:
    (first,) = append(client, 1)
    bench.committer.drain("t")

    with pytest.raises(RequestIdConflict):
        client.append("t", pa.table({"n": [2]}), request_id=first.request_id)


def test_futures_that_waited_when_redis_was_emptied_are_resolved(
    bench: Bench, client: Client
) -> None:
    settled_unheard = append(client, 2)
    bench.router.after = lambda _: bench.redis.flushall()  # committed, and nobody can be told
    bench.committer.drain("t")
    bench.router.after = ignore
    waiting = append(client, 1)
    assert not any(f.done() for f in settled_unheard)

    bench.committer.drain("t")

    assert [f.result(10).version for f in settled_unheard + waiting] == [0, 0, 1]
    assert bench.committed() == ids(settled_unheard + waiting)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_redis_emptied_around_a_commit_loses_and_doubles_nothing(
    bench: Bench, client: Client, moment: str
) -> None:
    futures = append(client, 3)

    def forget(_: CommitGroup) -> None:
        setattr(bench.router, moment, ignore)
        bench.redis.flushall()

    setattr(bench.router, moment, forget)
    bench.committer.drain("t")
    futures += append(client, 2)
    bench.committer.drain("t")

    assert bench.committed() == ids(futures)
    assert all(f.result(10).state is State.COMMITTED for f in futures)
    assert bench.staged() == []


def test_redis_emptied_again_during_a_restoration_is_restored_by_the_next(
    bench: Bench, client: Client
) -> None:
    futures = append(client, 2)
    bench.committer.drain("t")
    futures += append(client, 3)
    bench.redis.flushall()
    vouch = bench.memory.vouch

    def forget_then_vouch(*args: Any, **options: Any) -> str:
        bench.recovery._memory.vouch = vouch  # type: ignore[method-assign]
        bench.redis.flushall()
        return vouch(*args, **options)

    bench.recovery._memory.vouch = forget_then_vouch  # type: ignore[method-assign]
    bench.committer.drain("t")
    assert len(bench.committed()) == 2

    bench.committer.drain("t")

    assert bench.committed() == ids(futures)
    assert all(f.result(10).state is State.COMMITTED for f in futures)


@pytest.mark.parametrize("late", ["before", "between", "after"])
def test_a_holder_that_was_forgotten_and_commits_late_doubles_nothing(
    bench: Bench, client: Client, settings: Settings, late: str
) -> None:
    futures = append(client, 1)
    bench.committer.drain("t")
    with pytest.raises(SchemaMismatch):  # it takes a sequence, and the ledger does not move
        refuse(bench, client)
    futures += append(client, 2)
    other = Bench(settings.model_copy(update={"group_max_requests": 1}))
    held: list[CommitGroup] = []

    def forget(group: CommitGroup) -> None:
        """Stop the first holder right before its commit, and let another one take the table."""
        bench.router.before = ignore
        held.append(group)
        bench.redis.flushall()
        futures.extend(append(client, 1))
        if late == "before":
            other.router.before = commit_late
        elif late == "between":
            other.router.after = fail_to_commit_late
        other.committer.drain("t")

    def commit_late(_: CommitGroup) -> None:
        other.router.before = ignore
        bench.router.apply(held[0])

    def fail_to_commit_late(_: CommitGroup) -> None:
        other.router.after = ignore
        with pytest.raises(CommitConflict):
            bench.router.apply(held[0])

    bench.router.before = forget
    bench.committer.drain("t")

    assert bench.committed() == ids(futures)
    assert all(f.result(10).state is State.COMMITTED for f in futures)
    other.close()


def refuse(bench: Bench, client: Client) -> None:
    refused = client.append("t", pa.table({"other": ["x"]}))
    bench.committer.drain("t")
    refused.result(10)


def test_two_tables_and_two_lanes_are_restored_each_in_its_order(
    bench: Bench, client: Client
) -> None:
    futures: dict[tuple[str, Lane], list[str]] = {}
    for _ in range(3):
        for table in ("a", "b"):
            for lane in (Lane.LIVE, Lane.BULK):
                (future,) = append(client, 1, table, lane=lane)
                futures.setdefault((table, lane), []).append(future.request_id)
    bench.redis.flushall()

    for table in ("a", "b"):
        bench.committer.drain(table)

    for (table, lane), expected in futures.items():
        log = committed_requests(bench.settings.lake / table)
        assert [r for name, _, r in log if name.endswith(lane)] == expected


def test_a_retried_request_above_a_ledger_that_redis_forgot_is_not_doubled(
    bench: Bench, client: Client
) -> None:
    futures = append(client, 3)
    bench.committer.drain("t")
    # The same server comes back as it was before those three: same epoch, older counter.
    bench.redis.hset(keys.seq("t"), mapping={"live": 0, "claimed:live": 0})
    bench.redis.delete(keys.inbox("t", Lane.LIVE))
    for future in futures:
        bench.redis.delete(keys.request("t", future.request_id))

    futures += append(client, 3)
    again = client.append("t", ROWS, request_id=futures[0].request_id)  # sequence 4
    bench.committer.drain("t")

    assert again.result(10).version == 0
    assert bench.committed() == ids(futures)


def test_a_restart_without_the_last_writes_is_noticed_before_the_next_commit(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = load_settings(lake=tmp_path / "lake", redis_url=own_redis.url, lease_ttl=1.0)
    bench = Bench(settings)
    with Client(settings) as client:
        futures = append(client, 2)
        bench.committer.drain("t")
        kept = append(client, 2)
        shutil.copytree(own_redis.folder / "appendonlydir", tmp_path / "backup")
        committed_then_forgotten = append(client, 2)
        bench.committer.drain("t")
        forgotten = append(client, 3)

        own_redis.kill()
        shutil.rmtree(own_redis.folder / "appendonlydir")
        shutil.copytree(tmp_path / "backup", own_redis.folder / "appendonlydir")
        own_redis.start()
        again = client.append("t", ROWS, request_id=committed_then_forgotten[0].request_id)
        new = append(client, 1)
        bench.committer.drain("t")

        assert bench.committed() == ids(futures + kept + committed_then_forgotten + forgotten + new)
        assert again.result(10).version == 1
        assert all(f.result(10).state is State.COMMITTED for f in forgotten + new)
    bench.close()


def test_a_restart_in_the_middle_of_a_turn_is_noticed_although_the_lease_survived(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = load_settings(
        lake=tmp_path / "lake",
        redis_url=own_redis.url,
        group_max_requests=1,
        lease_ttl=3.0,
        time_slice=60.0,
    )
    bench = Bench(settings)
    with Client(settings) as client:
        futures = append(client, 1)
        backup: list[Future[Outcome]] = []

        def forget(_: CommitGroup) -> None:
            """Come back with the lease, but without what was accepted after it was taken."""
            bench.router.before = ignore
            shutil.copytree(own_redis.folder / "appendonlydir", tmp_path / "backup")
            backup.extend(append(client, 2))
            own_redis.kill()
            shutil.rmtree(own_redis.folder / "appendonlydir")
            shutil.copytree(tmp_path / "backup", own_redis.folder / "appendonlydir")
            own_redis.start()
            backup.extend(append(client, 1))

        bench.router.before = forget
        bench.committer.drain("t")

        assert bench.committed() == ids(futures + backup)
    bench.close()


@pytest.mark.on_disk("sets the times of files")
def test_a_staged_file_committed_longer_ago_than_outcomes_are_kept_is_not_committed_again(
    bench: Bench, client: Client
) -> None:
    (future,) = append(client, 1)
    staged = bench.staging.request_path("t", future.request_id)
    content = staged.read_bytes()
    bench.committer.drain("t")
    bench.remover.close()  # or it may remove what is put back
    staged.write_bytes(content)
    long_ago = time.time() - bench.settings.outcome_ttl - 86400
    for file in (staged, *(bench.settings.lake / "t/_delta_log").glob("*.json")):
        os.utime(file, (long_ago, long_ago))
    bench.redis.flushall()

    assert [f.action for f in bench.recovery.look("t")] == [Action.ACKNOWLEDGE]
    bench.committer.drain("t")

    assert bench.committed() == [future.request_id]
    assert not staged.exists()
    assert client.append("t", ROWS, request_id=future.request_id).result(10).version == 0


def test_a_restoration_that_was_cut_short_goes_on_where_it_ended(
    settings: Settings, client: Client
) -> None:
    bench = Bench(settings.model_copy(update={"group_max_requests": 1}))
    futures = append(client, 50)
    bench.committer.drain("t")
    bench.redis.flushall()
    remember = bench.memory.remember
    calls: list[object] = []

    def remember_once(*args: Any, **options: Any) -> int:
        if calls:
            raise LeaseLost("cut short")
        calls.append(args)
        return remember(*args, **options)

    bench.recovery._memory.remember = remember_once  # type: ignore[method-assign]
    bench.committer.drain("t")
    bench.recovery._memory.remember = remember  # type: ignore[method-assign]
    bench.redis.delete(keys.lease("t"))

    bench.committer.drain("t")

    known = bench.inbox.outcomes([("t", f.request_id) for f in futures])
    assert [o.version for o in known if isinstance(o, Outcome)] == list(range(50))
    bench.close()


def test_a_server_that_remembers_everything_is_asked_for_the_newest_commits_only(
    settings: Settings, client: Client
) -> None:
    bench = Bench(settings.model_copy(update={"group_max_requests": 1}))
    append(client, 50)
    bench.committer.drain("t")
    bench.remover.close()  # files that are still there are asked for, too
    bench.redis.hset(keys.seq("t"), "run", "another one")
    asked: list[int] = []
    outcomes = bench.inbox.outcomes

    def count(requests: Any) -> Any:
        asked.append(len(requests))
        return outcomes(requests)

    bench.recovery._inbox.outcomes = count  # type: ignore[method-assign]
    bench.committer.drain("t")

    assert sum(asked) == 2 * 20
    bench.close()


def test_what_is_staged_during_a_restoration_is_left_to_its_client(
    bench: Bench, client: Client
) -> None:
    (queued,) = append(client, 1)
    young = make_append("t")
    let_others_end = bench.recovery._let_others_end

    def stage_meanwhile(*arguments: Any) -> None:
        stage(bench.staging, young, ROWS)
        let_others_end(*arguments)

    bench.recovery._let_others_end = stage_meanwhile  # type: ignore[method-assign,assignment]
    bench.committer.drain("t")

    assert bench.committed() == [queued.request_id]
    assert bench.staged() == [young.request_id]


@pytest.mark.on_disk("sets the times of log entries")
def test_outcomes_that_expired_are_not_taken_for_forgotten(bench: Bench, client: Client) -> None:
    (future,) = append(client, 1)
    bench.committer.drain("t")
    long_ago = time.time() - bench.settings.outcome_ttl - 1
    for entry in (bench.settings.lake / "t/_delta_log").glob("*.json"):
        os.utime(as_path(entry), (long_ago, long_ago))
    bench.redis.delete(keys.request("t", future.request_id))
    bench.redis.hset(keys.seq("t"), "run", "another one")

    bench.committer.drain("t")

    assert not bench.redis.exists(keys.request("t", future.request_id))


def test_what_is_no_staged_request_is_left_alone_and_named(bench: Bench, client: Client) -> None:
    (good,) = append(client, 1)
    folder = bench.staging.root / "requests" / "t"
    torn = folder / f"{new_request_id()}.parquet"
    torn.write_bytes((folder / f"{good.request_id}.parquet").read_bytes()[:-10])
    other = make_append("other")
    stage(bench.staging, other, ROWS)
    misplaced = folder / f"{other.request_id}.parquet"
    move(bench.staging.root / "requests/other" / misplaced.name, misplaced)
    bench.redis.flushall()

    found = {f.path: f for f in bench.recovery.look("t")}
    bench.committer.drain("t")

    assert found[torn].action is Action.KEEP
    assert "not a whole Parquet file" in found[torn].reason
    assert found[misplaced].action is Action.KEEP
    assert "other" in found[misplaced].reason
    assert bench.committed() == [good.request_id]
    assert torn.exists()
    assert misplaced.exists()


def test_forgotten_requests_go_between_those_that_wait_by_age(bench: Bench, client: Client) -> None:
    futures = append(client, 9)
    lost = futures[1:3] + futures[5:6] + futures[8:]
    for future in lost:
        bench.inbox._client.delete(keys.request("t", future.request_id))
        sequence = futures.index(future) + 1
        bench.redis.xdel(keys.inbox("t", Lane.LIVE), f"{sequence}-0")

    bench.committer.drain("t")

    assert bench.committed() == ids(futures)
    assert [f.result(10).state for f in futures] == [State.COMMITTED] * 9


def test_ids_of_the_callers_own_are_ordered_by_their_time(bench: Bench, client: Client) -> None:
    names = ["z", "m", "a"]
    futures = []
    for name in names:
        futures += append(client, 1, request_id=name)
        now = time.time()
        while int(time.time() * 1000) <= int(now * 1000):
            pass  # the order of one millisecond cannot be told
    bench.redis.flushall()

    bench.committer.drain("t")

    assert bench.committed() == names


def test_tables_that_nobody_asks_for_are_rung_until_they_are_restored(
    bench: Bench, client: Client
) -> None:
    append(client, 1, "a")
    append(client, 1, "b")
    bench.redis.flushall()
    rung: list[str] = []
    sweeper = make_sweeper(bench.redis, bench.settings, ring=lambda table, _: rung.append(table))

    sweeper.recover()
    assert rung == ["a", "b"]
    bench.committer.drain("a")
    sweeper.recover()
    assert rung == ["a", "b", "b"]
    bench.committer.drain("b")
    sweeper.recover()

    assert rung == ["a", "b", "b"]
    assert bench.memory.is_complete()
    assert len(bench.committed("a")) == len(bench.committed("b")) == 1
