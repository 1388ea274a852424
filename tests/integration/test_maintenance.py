"""Maintenance in slices, on a real Redis and real tables."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from deltaq.client import Client, Future, Outcome, State
from deltaq.tasks import keys
from deltaq.tasks.request import Lane, Optimize
from deltaq.tasks.settings import Settings, load_settings
from deltaq.worker.engines import native_optimize
from deltaq.worker.groups import CommitGroup
from deltaq.worker.maintenance import slicing
from deltaq.worker.router import Performed
from tests.support.bench import Bench
from tests.support.log import actions
from tests.support.shell import Shell

DAYS = [f"d{n}" for n in range(6)]


@pytest.fixture(autouse=True)
def one_partition_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_optimize, "SLICE_SECONDS", 0)
    monkeypatch.setattr(slicing, "_PACK_FILES", 3)


def fill(settings: Settings, commits: int = 3) -> None:
    for n in range(commits):
        rows = pa.table({"day": DAYS, "k": [n] * len(DAYS)})
        write_deltalake(str(settings.lake / "t"), rows, mode="append", partition_by=["day"])


def table(settings: Settings) -> DeltaTable:
    return DeltaTable(str(settings.lake / "t"))


def size_of(found: DeltaTable) -> int:
    return sum(pa.table(found.get_add_actions())["size_bytes"].to_pylist())


def slices(bench: Bench) -> list[CommitGroup]:
    return [g for g in bench.router.applied if isinstance(g.first, Optimize)]


def test_a_live_request_waits_for_one_slice_and_no_longer(bench: Bench, client: Client) -> None:
    fill(bench.settings)
    optimized = client.optimize("t")
    live: list[Future[Outcome]] = []

    def submit_meanwhile(group: CommitGroup) -> Performed:
        performed = perform(group)
        if isinstance(group.first, Optimize):
            live.append(client.append("t", pa.table({"day": ["d0"], "k": [9]})))
        return performed

    perform = bench.router.apply
    bench.router.apply = submit_meanwhile  # type: ignore[method-assign]
    bench.committer.drain("t")

    assert optimized.result(5).state is State.COMMITTED
    order = [isinstance(group.first, Optimize) for group in bench.router.applied]
    assert order == [True, False] * len(DAYS)
    assert [f.result(5).state for f in live] == [State.COMMITTED] * len(DAYS)
    assert sum(table(bench.settings).to_pyarrow_table()["k"].to_pylist()) == 6 * 3 + 6 * 9


def test_how_far_it_came_is_seen_and_outlives_the_worker(
    bench: Bench, client: Client, shell: Shell
) -> None:
    fill(bench.settings)
    optimized = client.optimize("t")
    perform = bench.router.apply

    def die_in_the_fourth(group: CommitGroup) -> Performed:
        if len(slices(bench)) == 3:
            raise KeyboardInterrupt
        return perform(group)

    bench.router.apply = die_in_the_fourth  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        bench.committer.drain("t")

    (status,) = client.status()
    assert status.slices is not None
    assert (status.slices.operation, status.slices.done, status.slices.total) == ("optimize", 3, 6)
    assert b"optimize: 3 of 6 done" in shell.run("status")[1]
    assert len(table(bench.settings).file_uris()) == 3 + 3 * 3
    bench.router.apply = perform  # type: ignore[method-assign]
    bench.redis.delete(keys.lease("t"))
    bench.committer.drain("t")

    assert optimized.result(5).attempt == 2
    assert len(slices(bench)) == 6
    assert len(table(bench.settings).file_uris()) == 6
    assert client.status() == []
    moved = [v for v, action in actions(bench.settings.lake / "t") if "txn" in action]
    assert moved == [table(bench.settings).version()]


def test_without_redis_memory_it_begins_again_and_leaves_alone_what_is_compact(
    bench: Bench, client: Client
) -> None:
    fill(bench.settings)
    optimized = client.optimize("t")
    perform = bench.router.apply

    def forget(group: CommitGroup) -> Performed:
        performed = perform(group)
        if len(slices(bench)) == 2:
            bench.redis.hdel(keys.seq("t"), "slices")
        return performed

    bench.router.apply = forget  # type: ignore[method-assign]
    bench.committer.drain("t")

    assert optimized.result(5).state is State.COMMITTED
    rewritten = [a for _, a in actions(bench.settings.lake / "t") if "remove" in a]
    assert len(rewritten) == 18


def test_it_can_be_cancelled_between_slices_and_keeps_what_is_done(
    bench: Bench, client: Client
) -> None:
    fill(bench.settings)
    optimized = client.optimize("t")
    perform, told = bench.router.apply, list[bool]()

    def cancel_in_the_third(group: CommitGroup) -> Performed:
        told.append(optimized.cancel() if len(told) != 1 else False)
        return perform(group)

    bench.router.apply = cancel_in_the_third  # type: ignore[method-assign]
    bench.committer.drain("t")

    assert told == [False, False, True]
    assert optimized.cancelled()
    assert len(table(bench.settings).file_uris()) == 3 + 3 * 3
    assert bench.redis.exists(keys.lease("t"), keys.TABLES) == 0
    assert client.optimize("t", request_id="again")
    bench.committer.drain("t")
    assert len(table(bench.settings).file_uris()) == 6


def test_what_is_cancelled_in_its_last_slice_stays_cancelled(bench: Bench, client: Client) -> None:
    fill(bench.settings)
    optimized = client.optimize("t")
    perform = bench.router.apply

    def cancel_in_the_last(group: CommitGroup) -> Performed:
        if len(slices(bench)) == len(DAYS) - 1:
            assert optimized.cancel()
        return perform(group)

    bench.router.apply = cancel_in_the_last  # type: ignore[method-assign]
    bench.committer.drain("t")

    outcome = client.outcome("t", optimized.request_id)
    assert outcome is not None
    assert outcome.state is State.CANCELLED
    assert bench.redis.exists(keys.lease("t"), keys.TABLES) == 0


def test_slices_leave_time_to_those_who_write(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever had a slice of a millisecond rests for a second: far longer than the next look.
    bench = Bench(load_settings(**settings.model_dump(exclude_unset=True), maintenance_share=0.001))
    fill(settings)
    optimized = client.optimize("t")
    client.append("t", pa.table({"day": ["d0"], "k": [9]})).add_done_callback(lambda _: None)

    bench.committer.drain("t")
    bench.committer.drain("t")

    assert len(slices(bench)) == 1
    assert not optimized.done()
    assert bench.rung == []
    assert bench.redis.exists(keys.lease("t")) == 0
    assert bench.inbox.forgotten(dict.fromkeys(Lane, 0.0)) == {Lane.MAINTENANCE: ["t"]}
    bench.close()


WHERE: list[tuple[dict[str, Any], int]] = [
    ({"where": "day = 'd1'"}, 16),
    ({"where": "day in ('d1', 'd2') or day > 'd4'"}, 12),
    ({"where": "day = 'nowhere'"}, 18),
    ({"where": "day = 'd1'", "zorder": "k"}, 16),
    ({"target_bytes": 64 * 1024}, 6),
]


@pytest.mark.parametrize(("options", "files"), WHERE)
def test_only_the_partitions_asked_for_are_rewritten(
    bench: Bench, client: Client, options: dict[str, Any], files: int
) -> None:
    fill(bench.settings)

    optimized = client.optimize("t", **options)
    bench.committer.drain("t")

    assert optimized.result(5).state is State.COMMITTED
    assert len(table(bench.settings).file_uris()) == files


@pytest.mark.parametrize(
    "values",
    [[1, None, 2], [b"a", b"b", None], ["a'b c/%", "", None], [True, False, None]],
    ids=["numbers", "bytes", "texts", "truths"],
)
def test_partitions_of_any_value_are_compacted(
    bench: Bench, client: Client, values: list[Any]
) -> None:
    for n in range(3):
        rows = pa.table({"p q": values, "second": ["x", "y", "z"], "k": [n] * 3})
        partition_by = ["p q", "second"] if None not in values[:2] else ["p q"]
        write_deltalake(
            str(bench.settings.lake / "t"), rows, mode="append", partition_by=partition_by
        )

    client.optimize("t").add_done_callback(lambda _: None)
    bench.committer.drain("t")

    assert len(table(bench.settings).file_uris()) == 3
    assert table(bench.settings).to_pyarrow_table().num_rows == 9


@pytest.mark.parametrize("zorder", [None, ["k"]])
def test_files_are_no_larger_than_delta_rs_alone_makes_them(
    bench: Bench, client: Client, zorder: list[str] | None
) -> None:
    for n in range(3):
        numbers = range(n * 40_000, (n + 1) * 40_000)
        rows = pa.table(
            {"day": ["d"] * len(numbers), "k": numbers, "s": [f"order {k}" for k in numbers]}
        )
        for name in ("t", "bare"):
            path = str(bench.settings.lake / name)
            write_deltalake(path, rows, mode="append", partition_by=["day"])

    client.optimize("t", zorder=zorder).add_done_callback(lambda _: None)
    bench.committer.drain("t")
    bare = DeltaTable(str(bench.settings.lake / "bare"))
    if zorder:
        bare.optimize.z_order(zorder)
    else:
        bare.optimize.compact()

    assert len(table(bench.settings).file_uris()) == 1
    assert size_of(table(bench.settings)) <= size_of(bare)
