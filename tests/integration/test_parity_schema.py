"""``schema_mode="merge"`` leaves the same columns and rows behind on both engines."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deltaq.tasks.errors import ConstraintViolated, InvalidFrame, SchemaMismatch
from deltaq.tasks.location import Location
from deltaq.tasks.request import Append, Overwrite, Request
from deltaq.worker.engines import Commit, NotNative
from deltaq.worker.warm import WarmSpark
from tests.support.applying import Applier
from tests.support.twins import Twins

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def twins(place: Location, warm_spark: WarmSpark) -> Twins:
    made = Twins(place, warm_spark)
    made.both(lambda t: t.append(START))
    return made


START = pa.table({"k": [1, 2], "v": pa.array([10, 20], pa.int32())})
#: What is written one after another; each has columns that the table lacks.
EVOLVING: list[tuple[str, pa.Table, dict[str, Any]]] = [
    ("append", pa.table({"name": ["c"], "k": [3]}), {}),
    ("append", pa.table({"k": [4], "nested": [{"a": 1, "b": [1.5, None]}]}), {}),
    ("overwrite", pa.table({"k": [3], "v": [30], "day": pa.array([19000], pa.date32())}), {"where": "k = 3"}),
    ("overwrite", pa.table({"k": [5, 6], "flag": [True, None]}), {}),
]  # fmt: skip


def test_new_columns_are_added_and_missing_ones_are_null(twins: Twins) -> None:
    for operation, frame, options in EVOLVING:
        act = Applier.append if operation == "append" else Applier.overwrite
        twins.both(partial(act, rows=frame, schema_mode="merge", **options))

    twins.compare_versions()
    twins.compare_details()
    assert twins.compare().schema.names == ["k", "v", "name", "nested", "day", "flag"]


def test_a_table_keeps_what_else_it_is_when_a_column_is_added(
    tmp_path: Path, warm_spark: WarmSpark
) -> None:
    twins = Twins(tmp_path, warm_spark)
    twins.sql(
        "CREATE TABLE {table} (k bigint NOT NULL COMMENT 'key', v int) USING delta "
        "COMMENT 'all of it' TBLPROPERTIES ('team' = 'me')"
    )
    before = twins.native.engine.detail("prices")

    twins.both(lambda t: t.append(pa.table({"k": [1], "n": ["x"]}), schema_mode="merge"))
    refused = twins.refused(
        lambda t: t.append(
            pa.table({"k": pa.array([None], pa.int64()), "m": ["x"]}), schema_mode="merge"
        )
    )

    assert isinstance(refused, ConstraintViolated)
    twins.compare_details()
    after = twins.native.engine.detail("prices")
    assert after["properties"] == before["properties"]
    assert after["schema"][:2] == before["schema"]
    assert after["schema"][0]["nullable"] is False
    for applier in (twins.native, twins.spark):
        schema = warm_spark.session(timeout=60).read.format("delta").load(str(applier.path)).schema
        assert schema["k"].metadata["comment"] == "key"


def test_a_frame_of_the_tables_columns_is_written_as_without_schema_mode(twins: Twins) -> None:
    # 64 bits from pandas do not widen a column of 32 that holds the values.
    wide = pa.table({"k": [1, 3], "v": pa.array([11, 33], pa.int64())})
    twins.both(lambda t: t.append(wide, schema_mode="merge"))
    counts = twins.both(lambda t: t.merge(wide.slice(1), keys=("k",), schema_mode="merge")).counts
    too_wide = pa.table({"k": [1], "v": [2**40]})
    refused = twins.refused(lambda t: t.append(too_wide, schema_mode="merge"))

    assert counts[0].updated == 1
    assert isinstance(refused, SchemaMismatch)
    assert "1099511627776 does not fit int" in refused.message
    assert twins.compare().schema.field("v").type == pa.int32()


def test_a_merge_leaves_columns_alone_that_the_frame_lacks(twins: Twins) -> None:
    narrow = pa.table({"k": [2, 7]})
    twins.both(lambda t: t.merge(narrow, keys=("k",), schema_mode="merge"))

    assert sorted(twins.compare().to_pydict()["k"]) == [1, 2, 7]
    assert twins.native.rows("k", "v")[:2] == [(1, 10), (2, 20)]


MERGES: list[tuple[str, dict[str, Any], list[tuple[Any, ...]]]] = [
    ("whole rows", {}, [(1, 10, None), (2, 21, "b"), (7, 70, "g")]),
    ("insert only", {"update": ()}, [(1, 10, None), (2, 20, None), (7, 70, "g")]),
    ("update only", {"insert": False}, [(1, 10, None), (2, 21, "b")]),
    ("some columns", {"update": ("n",)}, [(1, 10, None), (2, 20, "b"), (7, 70, "g")]),
    (
        "deletes by a column that stays out",
        {"delete_when": "op = 'D'"},
        [(1, 10, None), (7, 70, "g")],
    ),
]


@pytest.mark.parametrize(("options", "left"), [m[1:] for m in MERGES], ids=[m[0] for m in MERGES])
def test_a_merge_that_adds_columns_is_for_spark(
    twins: Twins, options: dict[str, Any], left: list[tuple[Any, ...]]
) -> None:
    columns = {"k": [2, 7], "v": [21, 70], "n": ["b", "g"]}
    if "delete_when" in options:
        columns["op"] = ["D", "I"]
    frame = pa.table(columns)
    options = {"keys": ("k",), "schema_mode": "merge", **options}

    with pytest.raises(NotNative, match="add_column adds them before"):
        twins.native.merge(frame, **options)
    twins.spark.merge(frame, **options)

    assert twins.readers[0].rows("k", "v", "n") == left
    assert twins.spark.read().schema.names == ["k", "v", "n"]


def test_spark_widens_columns_of_tables_that_allow_it(twins: Twins) -> None:
    twins.sql("ALTER TABLE {table} SET TBLPROPERTIES ('delta.enableTypeWidening' = 'true')")
    with pytest.raises(NotNative):
        twins.native.append(START, schema_mode="merge")
    spark = twins.spark

    spark.append(pa.table({"k": [3], "v": [2**40]}), schema_mode="merge")
    spark.merge(pa.table({"k": [3], "v": [2**41], "n": [1.5]}), keys=("k",), schema_mode="merge")
    spark.append(pa.table({"k": [4], "v": pa.array([4], pa.int16())}), schema_mode="merge")

    assert spark.rows("k", "v", "n")[2:] == [(3, 2**41, 1.5), (4, 4, None)]
    assert spark.read().schema.field("v").type == pa.int64()
    refused = refusal_of(lambda: spark.append(pa.table({"k": [4], "v": [1.5]})))
    assert "1.5 does not fit bigint" in refused


def refusal_of(act: Any) -> str:
    with pytest.raises(SchemaMismatch) as caught:
        act()
    return caught.value.message


REFUSED: list[tuple[dict[str, Any], str, type[Exception], str]] = [
    ({"k": [1], "n": ["x"]}, "", SchemaMismatch, "(schema_mode='merge' adds new columns)"),
    ({"k": [1], "V": [1]}, "merge", SchemaMismatch, "has a column 'v'; 'V' would be the same"),
    ({"k": [1], "v": ["x"]}, "merge", SchemaMismatch, "string does not fit int"),
    ({"k": [1], "n": pa.nulls(1)}, "merge", InvalidFrame, "only nulls"),
    ({"k": [1], "a b": [1]}, "merge", InvalidFrame, "column 'a b'"),
    (
        {"k": [1], "t": pa.array([1], pa.timestamp("us"))},
        "merge",
        SchemaMismatch,
        "set_properties('prices', {'delta.feature.timestampNtz': 'supported'})",
    ),
]


def apply(kind: type[Request], frame: pa.Table, table: Applier, **options: Any) -> Commit:
    return table.apply(table.stage(kind, frame, **options))


def test_what_does_not_fit_is_refused_in_the_same_words(twins: Twins) -> None:
    for columns, mode, error, said in REFUSED:
        frame = pa.table(columns)
        for kind in (Append, Overwrite):
            refused = twins.refused(partial(apply, kind, frame, schema_mode=mode or None))
            assert type(refused) is error, said
            assert said in refused.message
    assert twins.native.ledger() == twins.spark.ledger() == 0


@pytest.mark.parametrize(
    ("properties", "partition_by"),
    [
        ({}, ("g",)),
        ({"delta.columnMapping.mode": "name"}, None),
        ({"delta.enableChangeDataFeed": "true"}, None),
    ],
    ids=str,
)
def test_native_leaves_new_columns_of_such_tables_to_spark(
    tmp_path: Path,
    warm_spark: WarmSpark,
    properties: dict[str, str],
    partition_by: tuple[str, ...] | None,
) -> None:
    twins = Twins(tmp_path, warm_spark)
    twins.both(lambda t: t.append(pa.table({"k": [1], "g": ["x"]}), partition_by=partition_by))
    for name, value in properties.items():
        twins.sql(f"ALTER TABLE {{table}} SET TBLPROPERTIES ('{name}' = '{value}')")
    frame = pa.table({"k": [2], "g": ["y"], "n": [2.5]})

    with pytest.raises(NotNative):
        twins.native.append(frame, schema_mode="merge")
    twins.spark.append(frame, schema_mode="merge")

    assert twins.readers[0].rows("k", "g", "n") == [(1, "x", None), (2, "y", 2.5)]
