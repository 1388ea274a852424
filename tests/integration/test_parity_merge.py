"""Merges, overwrites and deletes leave the same rows behind and tell the same counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from deltaq.tasks.request import Merge
from deltaq.worker.engines import NotNative, RowCounts
from tests.support.applying import Applier
from tests.support.twins import Twins

pytestmark = pytest.mark.timeout(300)


def rows(
    keys: Sequence[int | None], values: Sequence[str | None], **more: Sequence[Any]
) -> pa.Table:
    return pa.table({"k": pa.array(keys, pa.int64()), "v": pa.array(values, pa.string()), **more})


FOUR = rows([1, 2, 3, None], ["a", "b", None, "n"], g=["x", "x", "y", None], w=[1.0, 2.0, 3.0, 4.0])

#: What is merged into FOUR, one after another.
MERGES: list[tuple[str, pa.Table, dict[str, Any]]] = [
    (
        "whole rows",
        rows([2, 9], ["B", "i"], g=["x", "y"], w=[20.0, 90.0]),
        {"keys": ("k",)},
    ),
    (
        "null keys, more than once",
        rows([None, None, 3], ["n1", "n2", "c"], g=["z", None, "y"], w=[0.5, None, -0.0]),
        {"keys": ("k",)},
    ),
    (
        "composite keys, one of them null",
        rows([1, 1, 2], ["A", "new", "never"], g=["x", "y", None], w=[None, 1.0, 2.0]),
        {"keys": ("k", "g")},
    ),
    ("some columns, the key among them", rows([1, 77], ["q", "s"]), {"keys": ("k",), "update": ("k", "v")}),
    ("insert only", rows([1, 78], ["no", "yes"]), {"keys": ("k",), "update": ()}),
    (
        "update only",
        rows([2, 999], ["BB", "no"], g=["x", "x"], w=[1.0, 2.0]),
        {"keys": ("k",), "insert": False},
    ),
    (
        "deletes by a column that is not in the table",
        rows([1, 2, 500, 501], ["d", "u", "i", "d"], g=["x"] * 4, w=[0.0] * 4).append_column(
            "op", pa.array(["D", None, "I", "D"])
        ),
        {"keys": ("k",), "delete_when": "op = 'D'"},
    ),
    (
        "deletes by a column of the table, as staged",
        rows([2, 500], ["gone", "stays"], g=["x", "x"], w=[float("nan"), 1.0]),
        {"keys": ("k",), "delete_when": "v = 'gone' AND w > 5"},
    ),
    ("deletes only", rows([500], ["x"]), {
        "keys": ("k",), "update": (), "insert": False, "delete_when": "true"
    }),
    ("no rows", rows([], [], g=pa.array([], pa.string()), w=pa.array([], pa.float64())), {
        "keys": ("k",)
    }),
    ("text keys", rows([300, 301], ["n1", "t"], g=["t", "t"], w=[1.0, 2.0]), {"keys": ("v",)}),
]  # fmt: skip


@pytest.mark.parametrize("partition_by", [None, ("k",)], ids=str)
def test_merges_leave_the_same_rows_and_tell_the_same_counts(
    twins: Twins, partition_by: tuple[str, ...] | None
) -> None:
    # Not all of them for each layout: a merge takes Spark a second.
    merges = MERGES if partition_by is None else MERGES[:7:3]
    twins.both(lambda t: t.append(FOUR, partition_by=partition_by))

    for name, frame, options in merges:
        counts = twins.both(partial(Applier.merge, rows=frame, **options)).counts
        assert counts[0].inserted is not None, name

    twins.compare_versions()
    twins.compare()
    twins.compare_details()


def test_a_group_of_merges_in_one_commit_leaves_the_same_rows(twins: Twins) -> None:
    frames = [
        rows([1, 2, None], ["a1", "b1", "n1"]),
        rows([2, 3, None], ["b2", "c2", "n2"]),
        rows([3, 1], ["c3", "a3"]),
    ]

    def merge_all(table: Applier, insert: bool) -> Any:
        return table.apply(*(table.stage(Merge, f, keys=("k",), insert=insert) for f in frames))

    for insert in (True, False, True):  # the first one creates the table
        told = twins.both(partial(merge_all, insert=insert))
        assert told.counts == (RowCounts(),) * 3
    twins.compare_versions()

    assert twins.compare(where="k IS NOT NULL").num_rows == 3


def test_merges_create_the_same_table(twins: Twins) -> None:
    feed = rows([1, 2, None], ["a", "b", "n"], op=["I", "D", None])

    told = twins.both(
        lambda t: t.merge(feed, keys=("k",), delete_when="op = 'D'", partition_by=("v",))
    )

    assert told.counts == (RowCounts(inserted=2, updated=0, deleted=0),)
    assert twins.compare().num_rows == 2
    twins.compare_details()


def test_merges_into_an_empty_table_are_the_same(twins: Twins) -> None:
    twins.both(lambda t: t.append(rows([], [])))

    twins.both(lambda t: t.merge(rows([1], ["a"]), keys=("k",), insert=False))
    twins.both(lambda t: t.merge(rows([1, None], ["a", "n"]), keys=("k",)))

    assert twins.compare().num_rows == 2


def test_merges_by_floating_keys_are_for_spark(twins: Twins) -> None:
    # delta-rs leaves NaN out of statistics, and would not find the row that has it.
    frame = pa.table({"k": [0.0, float("nan")], "v": ["a", "b"]})
    twins.both(lambda t: t.append(frame))

    with pytest.raises(NotNative, match="key column 'k' is a double"):
        twins.native.merge(frame, keys=("k",))
    _, spark = twins.readers
    same_zero = pa.table({"k": [-0.0, float("nan")], "v": ["A", "B"]})

    commit = spark.apply(spark.stage(Merge, same_zero, keys=("k",)), first=1)

    assert commit.counts == (RowCounts(inserted=0, updated=2, deleted=0),)


def test_overwrites_and_deletes_leave_the_same_rows_and_tell_the_same_counts(twins: Twins) -> None:
    acts = [
        lambda t: t.append(rows([1, 2, 3, None], ["a", "b", "c", None])),
        lambda t: t.overwrite(rows([2], ["B"]), where="k <= 2"),
        lambda t: t.overwrite(rows([77], ["new"]), where="k = 77"),
        lambda t: t.overwrite(rows([], []), where="k = 99"),
        lambda t: t.overwrite(rows([], []), where="v = 'c' OR k = 77"),
        lambda t: t.delete("k = 99"),
        lambda t: t.delete("v IS NULL"),
        lambda t: t.append(rows([5, 6], ["e", "f"])),
        lambda t: t.delete("k >= 5"),
        lambda t: t.append(rows([], [])),
        lambda t: t.delete("true"),
        lambda t: t.overwrite(rows([8, 9], ["h", "i"])),
        lambda t: t.overwrite(rows([], [])),
    ]

    for act in acts:
        twins.both(act)

    twins.compare_versions()
    assert twins.compare().num_rows == 0
    assert twins.compare(version=7).num_rows == 3


def test_an_overwrite_with_where_creates_the_same_table(twins: Twins) -> None:
    twins.both(lambda t: t.overwrite(rows([1, 2], ["a", "b"]), where="k < 5"))

    assert twins.compare().num_rows == 2
