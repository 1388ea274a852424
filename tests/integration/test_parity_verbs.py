"""The verbs of tables do the same on both engines."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from deltaq.client.schemas import columns_of
from deltaq.tasks.errors import (
    DeltaqError,
    InvalidFrame,
    InvalidRequest,
    SchemaMismatch,
    TableExists,
    TableNotFound,
    VersionNotFound,
)
from deltaq.tasks.request import (
    AddColumn,
    Column,
    Create,
    Delete,
    Drop,
    RenameColumn,
    Request,
    Restore,
    SetProperties,
)
from deltaq.worker.drops import Drops
from deltaq.worker.engines import NotNative, RowCounts
from deltaq.worker.warm import WarmSpark
from tests.support.twins import Act, Twins, refusal

pytestmark = pytest.mark.timeout(300)


def does(kind: type[Request], **fields: Any) -> Act:
    return lambda t: t.apply(t.stage(kind, **fields))


def create(schema: Any, **fields: Any) -> Act:
    return does(Create, columns=columns_of(schema), **fields)


SCHEMA = {
    "symbol": "string not null",
    "day": pa.date32(),
    "price": "decimal(10, 2)",
    "at": "timestamp",
    "tags": "map<string, array<int>>",
    "quote": "struct<`bid`: double, ask: double>",
}


def test_both_engines_create_the_same_table(twins: Twins) -> None:
    told = twins.both(
        create(
            SCHEMA,
            partition_by=("day",),
            comment="what it costs",
            properties={"team": "me", "delta.logRetentionDuration": "interval 60 days"},
        )
    )

    assert told.version == 0
    assert told.counts == (RowCounts(),)
    twins.compare_details()
    detail = twins.native.engine.detail("prices")
    assert detail["schema"][0] == {"name": "symbol", "type": "string", "nullable": False}
    assert detail["partition_by"] == ["day"]
    for engine in (twins.native, twins.spark, *twins.readers):
        detail = engine.engine.detail("prices")
        assert detail["properties"]["team"] == "me"
        assert detail["comment"] == "what it costs"
        assert detail["properties"]["delta.logRetentionDuration"] == "interval 60 days"
    frame = pa.table({"symbol": ["IBM"], "day": pa.array([19000], pa.date32())})
    twins.both(lambda t: t.append(frame))
    assert twins.compare().num_rows == 1
    assert twins.native.ledger() == twins.spark.ledger() == 1


def test_native_leaves_a_table_to_spark_that_spark_would_not_read(twins: Twins) -> None:
    act = create({"k": "int not null", "local": "timestamp_ntz"})

    with pytest.raises(NotNative, match="features"):
        act(twins.native)
    act(twins.spark)

    assert twins.readers[0].read().num_rows == 0


def test_columns_are_added_with_their_comments(twins: Twins, warm_spark: WarmSpark) -> None:
    twins.both(lambda t: t.append(pa.table({"k": [1]})))
    column = Column(name="a", type="struct<x:int,`Yz`:array<string>>", comment="it's \\ new")

    twins.both(does(AddColumn, column=column))
    twins.both(lambda t: t.append(pa.table({"k": [2], "a": [{"x": 1, "Yz": ["p"]}]})))

    twins.compare_details()
    twins.compare_versions()
    assert twins.compare().num_rows == 2
    for applier in (twins.native, twins.spark):
        schema = warm_spark.session(timeout=60).read.format("delta").load(str(applier.path)).schema
        assert schema["a"].metadata["comment"] == "it's \\ new"


def test_properties_are_set_and_others_kept(twins: Twins) -> None:
    twins.both(create({"k": "int"}, properties={"a": "1", "b": "2"}))

    twins.both(does(SetProperties, properties={"b": "it's \\", "delta.checkpointInterval": "50"}))

    for engine in (twins.native, twins.spark):
        properties = engine.engine.detail("prices")["properties"]
        expected = {"a": "1", "b": "it's \\", "delta.checkpointInterval": "50"}
        assert properties.items() >= expected.items()


def test_a_property_that_delta_does_not_know_is_named(twins: Twins) -> None:
    twins.both(create({"k": "int"}))

    with pytest.raises(InvalidRequest, match=r"prices: Delta knows no property 'delta.appendOnyl'"):
        twins.spark.apply(twins.spark.stage(SetProperties, properties={"delta.appendOnyl": "true"}))


def test_a_restored_table_keeps_its_ledger_and_goes_on(twins: Twins) -> None:
    twins.both(lambda t: t.append(pa.table({"k": [1, 2]})))
    twins.both(lambda t: t.append(pa.table({"k": [3], "n": ["x"]}), schema_mode="merge"))
    twins.both(lambda t: t.delete("k = 1"))

    told = twins.both(does(Restore, version=0))
    assert twins.compare().to_pydict() == {"k": [1, 2]}
    again = twins.both(does(Restore, version=4 - 1))  # the newest: nothing but the ledger moves

    assert (told.version, again.version) == (3, 4)
    assert twins.native.ledger() == twins.spark.ledger() == 4
    twins.both(lambda t: t.append(pa.table({"k": [9]})))
    assert twins.compare().num_rows == 3
    # A time to come is the newest version.
    twins.both(does(Restore, timestamp="2999-01-01T00:00:00+00:00"))
    assert twins.compare().num_rows == 3


def test_spark_restores_tables_with_deletion_vectors(twins: Twins) -> None:
    twins.sql(
        "CREATE TABLE {table} (k bigint) USING delta "
        "TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')"
    )
    twins.both(lambda t: t.append(pa.table({"k": list(range(100))})))
    for applier in (twins.native, twins.spark):
        applier.apply(applier.stage(Delete, where="k < 3"))
    restore = does(Restore, version=1)

    with pytest.raises(NotNative, match="deletion vectors"):
        restore(twins.native)
    restore(twins.spark)

    assert twins.readers[0].read().num_rows == 100
    assert twins.spark.ledger() == 2


def test_spark_renames_columns_of_tables_with_column_mapping(twins: Twins) -> None:
    twins.both(lambda t: t.append(pa.table({"k": [1], "v": ["a"]})))
    with pytest.raises(NotNative, match=r"property 'delta.columnMapping.mode'"):
        twins.native.apply(
            twins.native.stage(SetProperties, properties={"delta.columnMapping.mode": "name"})
        )
    _, spark = twins.readers  # on native's table, which native then reads
    ledger = twins.native.ledger()
    mapping = {"delta.columnMapping.mode": "name"}
    spark.apply(spark.stage(SetProperties, properties=mapping), first=ledger + 1)
    spark.apply(spark.stage(RenameColumn, column="v", to="w"), first=ledger + 2)

    assert twins.native.rows("k", "w") == [(1, "a")]
    with pytest.raises(NotNative, match="another name"):
        twins.native.apply(
            twins.native.stage(RenameColumn, column="w", to="x"), first=twins.native.ledger() + 1
        )


REFUSED: list[tuple[Act, type[DeltaqError], str]] = [
    (create({"k": "int"}), TableExists, "there is a table prices already"),
    (does(Restore, version=7), VersionNotFound, "no version 7; the newest is 0"),
    (does(Restore, timestamp="2001-01-01T00:00:00Z"), VersionNotFound, "its log begins later"),
    (does(AddColumn, column=Column(name="K", type="int")), SchemaMismatch, "has a column 'k'"),
    (does(AddColumn, column=Column(name="a b", type="int")), InvalidFrame, "column 'a b'"),
    (does(AddColumn, column=Column(name="n", type="number")), InvalidRequest, "'number' is no"),
    (does(AddColumn, column=Column(name="n", type="timestamp_ntz")), SchemaMismatch, "Ntz"),
    (does(RenameColumn, column="kk", to="l"), SchemaMismatch, "did you mean 'k'"),
    (does(RenameColumn, column="k", to="l"), SchemaMismatch, "'delta.columnMapping.mode': 'name'"),
]
REFUSED_WITHOUT_TABLE: list[tuple[Act, type[DeltaqError], str]] = [
    (does(Restore, version=0), TableNotFound, "there is no table prices"),
    (does(SetProperties, properties={"a": "b"}), TableNotFound, "there is no table prices"),
    (does(AddColumn, column=Column(name="n", type="int")), TableNotFound, "there is no table"),
    (does(RenameColumn, column="k", to="l"), TableNotFound, "there is no table prices"),
    (create({"k": "void"}), InvalidRequest, "'void' is no type of Delta"),
    (create({"k": "int; drop"}), InvalidRequest, "is no type of Delta"),
    (create({"k": "decimal(40, 2)"}), InvalidRequest, "is no type of Delta"),
    (create({"k": "varchar(3)"}), InvalidRequest, "is no type of Delta"),
    (create({"k": "decimal"}), InvalidRequest, "is no type of Delta"),
    (create({"a b": "int"}), InvalidFrame, "column 'a b'"),
    (create({"a": "array<struct<`b c`: int>>"}), InvalidFrame, "column 'a'"),
    (create({"k": "int"}, properties={"owner": "me"}), InvalidRequest, "'owner' is no property"),
    (create({"k": "binary", "v": "int"}, partition_by=("k",)), InvalidFrame, "names no folder"),
    (create({"k": "int"}, partition_by=("k",)), InvalidFrame, "at least one column"),
]


def test_what_cannot_be_is_refused_in_the_same_words(twins: Twins) -> None:
    for act, error, said in REFUSED_WITHOUT_TABLE:
        refused = twins.refused(act)
        assert type(refused) is error, said
        assert said in refused.message
        assert not twins.native.lake.exists("prices")
        assert not twins.spark.lake.exists("prices")
    twins.both(lambda t: t.append(pa.table({"k": [1], "v": ["a"]})))
    for act, error, said in REFUSED:
        refused = twins.refused(act)
        assert type(refused) is error, said
        assert said in refused.message
    assert twins.native.read_version()[0] == twins.readers[0].read_version()[0] == 0


def test_a_table_with_the_name_of_a_dropped_one_has_nothing_of_it(twins: Twins) -> None:
    for applier in (twins.native, twins.spark):
        # With checkpoints, from which an engine that remembers the old table would go on.
        applier.apply(
            applier.stage(
                Create,
                columns=columns_of({"k": "int"}),
                properties={"delta.checkpointInterval": "2"},
            )
        )
        for n in range(4):
            applier.append(pa.table({"k": [n]}))
        drop = applier.stage(Drop)
        assert isinstance(drop, Drop)

        Drops(applier.lake, applier.staging, keep=60.0).drop(drop)

        assert applier.ledger() == -1
        assert refusal(lambda t: t.delete("k = 1"), applier).code == "table_not_found"
        assert applier.append(pa.table({"new": ["a", "b"]})).version == 0
        assert applier.append(pa.table({"new": ["c"]})).version == 1
        assert applier.rows("new") == [("a",), ("b",), ("c",)]
    twins.compare_versions()
    twins.compare_details()
