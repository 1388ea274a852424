"""The files of a large partition, put together some at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.transaction import AddAction

from deltaq.client import Client, State
from deltaq.tasks.location import Location, create
from deltaq.tasks.request import Optimize
from deltaq.tasks.settings import Settings
from deltaq.worker.engines import native_bins, native_optimize
from deltaq.worker.engines.urls import open_table
from deltaq.worker.groups import CommitGroup
from deltaq.worker.maintenance import slicing
from deltaq.worker.router import Performed
from tests.support.bench import Bench
from tests.support.log import actions, ledgers

FILES = 10
MOMENT = datetime(2024, 5, 31, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def three_files_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_optimize, "SLICE_SECONDS", 0)
    monkeypatch.setattr(slicing, "_PACK_FILES", 3)
    monkeypatch.setattr(slicing, "_BIN_FILES", 3)


def place(settings: Settings) -> Location:
    return settings.lake / "t"


def fill(settings: Settings, **options: Any) -> None:
    for n in range(FILES):
        rows = pa.table({"k": [2 * n, 2 * n + 1], "s": [f"{n}", None], "day": ["a", None]})
        write_deltalake(str(place(settings)), rows, mode="append", **options)


def table(bench: Bench) -> DeltaTable:
    return open_table(place(bench.settings))


def keys_of(bench: Bench) -> list[int]:
    return sorted(table(bench).to_pyarrow_table(columns=["k"])["k"].to_pylist())


def slices(bench: Bench) -> list[CommitGroup]:
    return [g for g in bench.router.applied if isinstance(g.first, Optimize)]


def test_a_live_request_waits_for_some_files_of_a_partition_and_not_for_all(
    bench: Bench, client: Client
) -> None:
    fill(bench.settings)
    before = table(bench).version()
    optimized = client.optimize("t")
    perform, told = bench.router.apply, list[tuple[int, int]]()

    def submit_meanwhile(group: CommitGroup) -> Performed:
        performed = perform(group)
        if more := performed.commit.more:
            told.append((more.done, more.total))
            late = client.append("t", pa.table({"k": [99], "s": ["late"], "day": ["a"]}))
            late.add_done_callback(lambda _: None)
        return performed

    bench.router.apply = submit_meanwhile  # type: ignore[method-assign]
    bench.committer.drain("t")

    assert optimized.result(5).state is State.COMMITTED
    # Ten files are put together by threes, what they became is put together again, and so on.
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5)]
    assert [isinstance(g.first, Optimize) for g in bench.router.applied] == [True, False] * 4 + [
        True
    ]
    assert keys_of(bench) == [*range(2 * FILES), *[99] * 4]
    changed = [
        a[kind]["dataChange"]
        for version, a in actions(place(bench.settings))
        for kind in ("add", "remove")
        if version > before and kind in a and a[kind]["partitionValues"] == {}
    ]
    assert changed.count(True) == 4  # those of the appends alone
    assert [found[0] for found in ledgers(place(bench.settings))][-1] == table(bench).version()


def test_statistics_of_what_was_put_together_are_those_of_its_rows(
    bench: Bench, client: Client
) -> None:
    fill(bench.settings)

    client.optimize("t").add_done_callback(lambda _: None)
    bench.committer.drain("t")

    (told,) = pa.table(table(bench).get_add_actions(flatten=True)).to_pylist()
    assert told["num_records"] == 2 * FILES
    assert (told["min.k"], told["max.k"]) == (0, 2 * FILES - 1)
    assert (told["null_count.s"], told["min.s"], told["max.s"]) == (FILES, "0", "9")


@pytest.mark.parametrize("crash", ["before the commit", "after the commit"])
def test_a_worker_that_dies_at_a_bin_loses_that_bin_and_no_row(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch, crash: str
) -> None:
    fill(bench.settings, partition_by=["day"])
    optimized = client.optimize("t")
    with monkeypatch.context() as patch:
        put_together, called = native_bins.put_together, list[int]()

        def die_in_the_third(*args: Any, **options: Any) -> None:
            called.append(1)
            if len(called) < 3:
                put_together(*args, **options)
                return
            if crash == "before the commit":
                patch.setattr(DeltaTable, "create_write_transaction", _die)
            put_together(*args, **options)
            raise KeyboardInterrupt

        patch.setattr(native_optimize, "put_together", die_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            bench.committer.drain("t")
    assert keys_of(bench) == [*range(2 * FILES)]

    bench.redis.delete(*bench.redis.keys("*lease*"))
    bench.committer.drain("t")

    assert optimized.result(5).attempt == 2
    assert keys_of(bench) == [*range(2 * FILES)]
    assert len(table(bench).file_uris()) == 2
    client.vacuum("t", retention_hours=0, force=True).add_done_callback(lambda _: None)
    bench.committer.drain("t")
    assert len(list(place(bench.settings).glob("day=*/*.parquet"))) == 2


def _die(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_rows_that_somebody_else_deletes_meanwhile_do_not_come_back(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bench.settings)
    copy, others = native_bins._copy, ["k < 4"]

    def overtaken(*args: Any) -> str:
        stats = copy(*args)
        if others:
            table(bench).delete(others.pop())
        return stats

    monkeypatch.setattr(native_bins, "_copy", overtaken)
    optimized = client.optimize("t")
    bench.committer.drain("t")

    assert optimized.result(5).state is State.COMMITTED
    assert keys_of(bench) == [*range(4, 2 * FILES)]


def test_it_is_cancelled_between_bins_and_what_is_done_stays(bench: Bench, client: Client) -> None:
    fill(bench.settings)
    optimized = client.optimize("t")
    perform = bench.router.apply

    def cancel_in_the_second(group: CommitGroup) -> Performed:
        if len(slices(bench)) == 1:
            assert optimized.cancel()
        return perform(group)

    bench.router.apply = cancel_in_the_second  # type: ignore[method-assign]
    bench.committer.drain("t")

    assert optimized.cancelled()
    assert len(table(bench).file_uris()) == FILES - 4
    assert keys_of(bench) == [*range(2 * FILES)]


def test_columns_that_came_later_are_null_in_rows_from_before(bench: Bench, client: Client) -> None:
    fill(bench.settings)
    later = pa.table({"k": [99], "s": ["x"], "day": ["a"], "later": [1.5]})
    write_deltalake(str(place(bench.settings)), later, mode="append", schema_mode="merge")
    before = table(bench).to_pyarrow_table().sort_by("k").to_pylist()

    client.optimize("t").add_done_callback(lambda _: None)
    bench.committer.drain("t")

    assert len(table(bench).file_uris()) == 1
    assert table(bench).to_pyarrow_table().sort_by("k").to_pylist() == before


def test_partitions_with_files_that_cannot_be_copied_as_they_are_are_left_to_delta_rs(
    bench: Bench, client: Client
) -> None:
    path = place(bench.settings)
    rows = pa.table({"k": [1], "t": pa.array([MOMENT], pa.timestamp("us", "UTC"))})
    for _ in range(FILES):
        write_deltalake(str(path), rows, mode="append")
    # As Spark wrote times for years: whether they are in UTC is not told in the file.
    with create(path / "old.parquet") as file:
        pq.write_table(rows, file, use_deprecated_int96_timestamps=True)
    size = (path / "old.parquet").stat().st_size
    old = AddAction("old.parquet", size, {}, 0, data_change=True, stats='{"numRecords": 1}')
    table(bench).create_write_transaction([old], "append", table(bench).schema())

    client.optimize("t").add_done_callback(lambda _: None)
    bench.committer.drain("t")

    assert len(table(bench).file_uris()) == 1
    assert table(bench).to_pyarrow_table()["t"].to_pylist() == [MOMENT] * (FILES + 1)
    # Nothing is left of the file that was begun.
    assert len(list(path.glob("*.parquet"))) == FILES + 2


def test_a_bin_that_takes_long_is_cut_short_and_the_rest_comes_later(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_optimize, "_BIN_SECONDS", 0)
    fill(bench.settings)
    client.optimize("t").add_done_callback(lambda _: None)
    told: list[int] = []
    perform = bench.router.apply

    def note(group: CommitGroup) -> Performed:
        performed = perform(group)
        told.append(len(table(bench).file_uris()))
        return performed

    bench.router.apply = note  # type: ignore[method-assign]
    bench.committer.drain("t")

    # By twos instead of threes, until what is left goes into one commit of delta-rs.
    assert told == [*range(FILES - 1, 2, -1), 1]
    assert keys_of(bench) == [*range(2 * FILES)]


@pytest.mark.s3
def test_files_are_put_together_wherever_the_lake_is(bench: Bench, client: Client) -> None:
    for n in range(5):
        appended = client.append("t", pa.table({"k": [n, 10 + n], "s": ["x", None]}))
        bench.committer.drain("t")
        appended.result(10)

    optimized = client.optimize("t")
    bench.committer.drain("t")

    assert optimized.result(10).state is State.COMMITTED
    found = open_table(bench.settings.lake / "t")
    assert len(found.file_uris()) == 1
    assert sorted(found.to_pyarrow_table()["k"].to_pylist()) == [*range(5), *range(10, 15)]
