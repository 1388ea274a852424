"""A large partition that is ordered while others commit to its table."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from deltaq.client import Client, Future, Outcome, State
from deltaq.tasks import keys
from deltaq.tasks.request import Optimize, new_request_id
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines import native_optimize
from deltaq.worker.engines.native_ordering import Ordering
from deltaq.worker.groups import CommitGroup
from deltaq.worker.router import Performed
from tests.support.bench import Bench
from tests.support.log import actions, ledgers
from tests.support.waiting import wait_until

pytestmark = pytest.mark.on_disk("elsewhere partitions are ordered as a whole")


@pytest.fixture(autouse=True)
def every_partition_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_optimize, "SLICE_SECONDS", 0)
    monkeypatch.setattr(native_optimize, "_ASIDE_BYTES", 0)
    monkeypatch.setattr(native_optimize, "_LOOK_SECONDS", 0.01)


class Held:
    """Keeps what is being ordered from its end until it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_end = threading.Event()
        is_done = Ordering.is_done

        def held(ordering: Ordering, seconds: float) -> bool:
            return self.may_end.is_set() and is_done(ordering, seconds)

        monkeypatch.setattr(Ordering, "is_done", held)


def place(bench: Bench) -> Path:
    return Path(str(bench.settings.lake / "t"))


def fill(bench: Bench) -> None:
    for n in range(3):
        rows = pa.table({"day": ["a", "a", None], "k": [9 - n, n, n]})
        write_deltalake(place(bench), rows, mode="append", partition_by=["day"])


def keys_of(bench: Bench) -> list[int]:
    return sorted(DeltaTable(place(bench)).to_pyarrow_table()["k"].to_pylist())


def left(bench: Bench) -> list[Path]:
    """List what is in the work folder."""
    return list(bench.staging.work.glob("*"))


def after_slice(bench: Bench, number: int, deed: Callable[[], Any]) -> None:
    """Do something when a slice of an optimize has ended."""
    perform, ended = bench.router.apply, count(1)

    def doing(group: CommitGroup) -> Performed:
        performed = perform(group)
        if isinstance(group.first, Optimize) and next(ended) == number:
            deed()
        return performed

    bench.router.apply = doing  # type: ignore[method-assign]


def drained(bench: Bench, future: Future[Outcome], table: str = "t") -> Outcome:
    def ended() -> bool:
        bench.committer.drain(table)
        return future.done()

    wait_until(ended, within=30)
    return future.result(0)


def test_writers_go_on_while_a_partition_is_ordered_and_no_row_is_lost(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bench)
    held, live = Held(monkeypatch), list[Future[Outcome]]()

    def append_meanwhile() -> None:
        future = client.append("t", pa.table({"day": ["a"], "k": [99]}))
        future.add_done_callback(lambda _: held.may_end.set())
        live.append(future)

    after_slice(bench, 1, append_meanwhile)
    ordered = client.optimize("t", zorder="k")

    assert drained(bench, ordered).state is State.COMMITTED

    assert live[0].result(0).state is State.COMMITTED
    assert keys_of(bench) == sorted([9, 0, 0, 8, 1, 1, 7, 2, 2, 99])
    assert len(DeltaTable(place(bench)).file_uris()) == 3  # one for each day, and the late one
    by_us = [a["add"] for v, a in actions(place(bench)) if v > 3 and "add" in a]
    assert [add["dataChange"] for add in by_us] == [False, False]
    assert ledgers(place(bench))[-1][0] == DeltaTable(place(bench)).version()
    (told,) = {
        (file["min.k"], file["max.k"], file["num_records"])
        for file in pa.table(DeltaTable(place(bench)).get_add_actions(flatten=True)).to_pylist()
        if file["partition.day"] == "a" and file["num_records"] > 1
    }
    assert told == (0, 9, 6)
    assert left(bench) == []


def test_rows_that_are_deleted_while_they_are_ordered_do_not_come_back(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bench)
    held = Held(monkeypatch)

    def delete_meanwhile() -> None:
        future = client.delete("t", where="k = 9")
        future.add_done_callback(lambda _: held.may_end.set())

    after_slice(bench, 1, delete_meanwhile)
    ordered = client.optimize("t", zorder="k")

    assert drained(bench, ordered).state is State.COMMITTED

    assert keys_of(bench) == [0, 0, 1, 1, 2, 2, 7, 8]
    assert len(DeltaTable(place(bench)).file_uris()) == 2
    assert left(bench) == []


def test_where_there_can_be_no_links_a_partition_is_ordered_as_a_whole(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bench)

    elsewhere = Path("/dev/shm") / new_request_id()
    monkeypatch.setattr(StagingArea, "new_work_path", lambda _: elsewhere)
    ordered = client.optimize("t", zorder="k")

    assert drained(bench, ordered).state is State.COMMITTED
    assert keys_of(bench) == [0, 0, 1, 1, 2, 2, 7, 8, 9]
    assert len(DeltaTable(place(bench)).file_uris()) == 2


def test_what_was_ordered_for_a_request_that_is_cancelled_is_dropped(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bench)
    held = Held(monkeypatch)
    cancelled = client.optimize("t", zorder="k")
    after_slice(bench, 2, cancelled.cancel)  # nothing is known of it before the first one
    bench.committer.drain("t")
    assert cancelled.cancelled()
    assert len(left(bench)) == 1
    held.may_end.set()

    ordered = client.optimize("t", zorder="k", where="day = 'a'")

    assert drained(bench, ordered).state is State.COMMITTED
    assert keys_of(bench) == [0, 0, 1, 1, 2, 2, 7, 8, 9]
    wait_until(lambda: not left(bench), within=10)


def test_a_worker_that_dies_before_the_commit_leaves_only_what_a_vacuum_removes(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bench)
    ordered = client.optimize("t", zorder="k")

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", die)
        with pytest.raises(KeyboardInterrupt):
            drained(bench, ordered)
    assert len(list(place(bench).rglob("day=*/*.parquet"))) == 7
    bench.redis.delete(keys.lease("t"))

    assert drained(bench, ordered).state is State.COMMITTED
    assert keys_of(bench) == [0, 0, 1, 1, 2, 2, 7, 8, 9]
    drained(bench, client.vacuum("t", retention_hours=0, force=True))
    assert len(list(place(bench).rglob("day=*/*.parquet"))) == 2


def test_of_two_tables_one_is_ordered_at_a_time(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bench)
    write_deltalake(place(bench).with_name("other"), pa.table({"k": [2, 1]}))
    held = Held(monkeypatch)
    first, second = client.optimize("t", zorder="k"), client.optimize("other", zorder="k")
    after_slice(bench, 2, bench.stopping.set)
    bench.committer.drain("t")
    bench.stopping.clear()
    after_slice(bench, 2, bench.stopping.set)
    bench.committer.drain("other")
    bench.stopping.clear()
    assert len(left(bench)) == 1
    held.may_end.set()

    assert drained(bench, first).state is State.COMMITTED
    assert drained(bench, second, "other").state is State.COMMITTED
    assert left(bench) == []
