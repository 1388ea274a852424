"""Maintenance does the same on both engines, and moves the ledger like any other request."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from deltaq.tasks.errors import (
    CommitConflict,
    DeltaqError,
    InvalidExpression,
    InvalidRequest,
    SchemaMismatch,
    TableExists,
    TableNotFound,
    VersionNotFound,
)
from deltaq.tasks.location import Location
from deltaq.tasks.request import (
    Append,
    Convert,
    Delete,
    Optimize,
    Request,
    Restore,
    SetProperties,
    Vacuum,
)
from deltaq.worker.engines import NotNative, native_maintenance
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.transaction import Transactions
from deltaq.worker.maintenance import slicing
from deltaq.worker.maintenance.unneeded import remove_checksums
from tests.support.applying import Applier
from tests.support.places import files_in
from tests.support.twins import Act, Twins, canonical, refusal

pytestmark = pytest.mark.timeout(300)


def does(kind: type[Request], **fields: Any) -> Act:
    return lambda t: t.apply(t.stage(kind, **fields))


def files(applier: Applier) -> int:
    return len(DeltaTable(str(applier.path)).file_uris())


def data_files(applier: Applier) -> list[Location]:
    return [file for file in files_in(applier.path) if file.suffix == ".parquet"]


def each(twins: Twins, act: Act) -> None:
    """Have both engines do something for which native needs a commit more."""
    for applier in (twins.native, twins.spark):
        assert act(applier).version == DeltaTable(str(applier.path)).version()


def fill(twins: Twins, commits: int = 4) -> None:
    for n in range(commits):
        frame = pa.table({"day": ["a", "b"], "k": [n, -n], "v": [None, f"{n}"]})
        twins.both(lambda t, frame=frame: t.append(frame, partition_by=("day",)))  # type: ignore[misc]


def ledgers(twins: Twins) -> set[int]:
    return {a.ledger() for a in (twins.native, twins.spark, *twins.readers)}


def test_small_files_are_compacted_and_the_ledger_moves(twins: Twins) -> None:
    fill(twins)
    before = twins.compare().sort_by([("k", "ascending"), ("day", "ascending")])

    each(twins, does(Optimize))

    assert [files(a) for a in (twins.native, twins.spark)] == [2, 2]
    after = twins.compare().sort_by([("k", "ascending"), ("day", "ascending")])
    assert after.to_pylist() == before.to_pylist()
    assert ledgers(twins) == {4}


def test_only_partitions_asked_for_are_compacted_and_to_the_size_asked_for(twins: Twins) -> None:
    fill(twins)
    each(twins, does(Optimize, where="day in ('b', 'x')"))
    assert [files(a) for a in (twins.native, twins.spark)] == [5, 5]
    each(twins, does(Optimize, where="day = 'a'", zorder=("k",)))
    assert [files(a) for a in (twins.native, twins.spark)] == [2, 2]

    each(twins, lambda t: t.append(pa.table({"day": ["a", "b"], "k": [9, 9]})))
    each(twins, does(Optimize, target_bytes=64 * 1024))

    assert [files(a) for a in (twins.native, twins.spark)] == [2, 2]
    assert twins.compare().num_rows == 10


def test_a_table_that_is_compact_already_moves_its_ledger_all_the_same(twins: Twins) -> None:
    fill(twins, commits=1)

    each(twins, does(Optimize))

    assert ledgers(twins) == {1}
    twins.both(lambda t: t.append(pa.table({"day": ["a"], "k": [9], "v": ["x"]})))
    assert twins.compare().num_rows == 3


def test_z_order_compacts_and_orders_in_one_pass(twins: Twins) -> None:
    fill(twins)

    each(twins, does(Optimize, zorder=("k", "v")))

    assert [files(a) for a in (twins.native, twins.spark)] == [2, 2]
    assert twins.compare().num_rows == 8
    assert ledgers(twins) == {4}


def test_a_vacuum_removes_what_no_version_needs_and_then_moves_the_ledger(twins: Twins) -> None:
    fill(twins)
    each(twins, does(Optimize))
    data = [len(data_files(a)) for a in (twins.native, twins.spark)]
    assert data == [10, 10]

    for applier in (twins.native, twins.spark):
        told = does(Vacuum, retention_hours=0, force=True, dry_run=True)(applier)
        assert (told.value["files"], len(told.value["listed"])) == (8, 8)
        stale = [applier.path / name for name in told.value["listed"]]
        assert told.value["size_bytes"] == sum(file.stat().st_size for file in stale)
        assert len(data_files(applier)) == 10
        assert applier.ledger() == 5
        done = does(Vacuum, retention_hours=0, force=True)(applier)
        assert done.value is None
        assert len(data_files(applier)) == 2
        assert done.version == DeltaTable(str(applier.path)).version()
        assert applier.ledger() == 6

    assert twins.compare().num_rows == 8


def test_a_version_whose_files_a_vacuum_removed_is_not_restored(twins: Twins) -> None:
    fill(twins, commits=2)
    twins.both(lambda t: t.overwrite(pa.table({"day": ["a"], "k": [1], "v": ["x"]})))
    for applier in (twins.native, twins.spark):
        applier.apply(applier.stage(Vacuum, retention_hours=0, force=True))
        before = applier.ledger()

        error = refusal(does(Restore, version=0), applier)

        assert type(error) is VersionNotFound
        assert applier.ledger() == before
    assert twins.compare().num_rows == 1


REFUSED: list[tuple[Act, type[DeltaqError], str]] = [
    (
        does(Optimize, zorder=("kk",)),
        SchemaMismatch,
        "'kk', which is not in the table (did you mean 'k'?)",
    ),
    (does(Optimize, zorder=("day",)), SchemaMismatch, "'day', which partitions the table"),
    (does(Optimize, where="k = 1"), SchemaMismatch, "'k', which does not partition the table"),
    (does(Optimize, where="day = "), InvalidExpression, "where"),
    (does(Optimize, where="dya = 'a'"), InvalidExpression, "dya"),
    (does(Vacuum, retention_hours=167), InvalidRequest, "less than 168"),
    (does(Vacuum, retention_hours=-1, force=True), InvalidRequest, "is not between 0 and"),
    (does(Vacuum, retention_hours=10**9), InvalidRequest, "is not between 0 and"),
    (does(Restore, version=99), VersionNotFound, "version 99"),
    (does(Convert), TableExists, "there is a table prices already"),
    (
        does(SetProperties, properties={"deltaq.policy.zorder": '["kk"]'}),
        SchemaMismatch,
        "the policy's zorder names 'kk', which is not in the table (did you mean 'k'?)",
    ),
    (
        does(SetProperties, properties={"deltaq.policy.zorder": '["day"]'}),
        SchemaMismatch,
        "the policy's zorder names 'day', which partitions the table",
    ),
    (
        does(SetProperties, properties={"deltaq.policy.hours": "at night"}),
        InvalidRequest,
        "policy hours 'at night'",
    ),
]


def stored(applier: Applier) -> list[tuple[str, bytes]]:
    """List what there is in a table's folder, with its content."""
    # Spark makes objects that stand for folders.
    found = (file for file in files_in(applier.path) if file.is_file())
    return [(str(file), file.read_bytes()) for file in found]


def test_what_maintenance_cannot_do_is_refused_in_the_same_words(twins: Twins) -> None:
    for kind in (Optimize, Vacuum):
        assert type(twins.refused(does(kind))) is TableNotFound
    fill(twins, commits=1)
    before = [stored(a) for a in (twins.native, twins.spark)]
    for act, error, said in REFUSED:
        refused = twins.refused(act)
        assert type(refused) is error
        assert said in refused.message
        assert [stored(a) for a in (twins.native, twins.spark)] == before
    assert ledgers(twins) == {2}  # that of the frame, after two sequences without a table


def test_spark_does_not_compact_beside_a_ledger_that_moves_meanwhile(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, overtakers = Transactions._prepare, list[Act]()

    def overtaken(self: Transactions, actions: Any) -> Any:
        if overtakers:
            overtakers.pop()(twins.readers[0])
        return prepare(self, actions)

    # The JVM keeps what was there when it was connected: before anything is committed.
    monkeypatch.setattr(Transactions, "_prepare", overtaken)
    fill(twins)
    group = twins.spark.group(twins.spark.stage(Optimize))
    # It touches none of the files that are compacted, so OPTIMIZE would begin again.
    frame = pa.table({"day": ["a"], "k": [9]})
    overtakers.append(lambda other: other.apply(other.stage(Append, frame), first=group.sequence))

    with pytest.raises(CommitConflict):
        twins.spark.engine.apply(group)

    told = DeltaTable(str(twins.spark.path)).history()
    assert [commit["operation"] for commit in told[:2]] == ["WRITE", "WRITE"]
    assert twins.spark.ledger() == group.sequence


def test_native_moves_no_ledger_that_has_moved_during_its_vacuum(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(twins)
    group = twins.native.group(twins.native.stage(Vacuum))
    lake, staging = twins.native.lake, twins.native.staging
    other = Applier(NativeEngine(lake, staging), lake.root)

    def overtaken(path: Location) -> None:
        monkeypatch.undo()
        other.apply(other.stage(Vacuum), first=group.sequence)
        remove_checksums(path)

    monkeypatch.setattr(f"{native_maintenance.__name__}.remove_checksums", overtaken)

    with pytest.raises(CommitConflict):
        twins.native.engine.apply(group)

    with_ledger = DeltaTable(str(twins.native.path)).history()
    assert sum("userMetadata" in told for told in with_ledger) == 5


@pytest.mark.parametrize(
    "properties",
    [
        "delta.enableDeletionVectors = true, delta.enableChangeDataFeed = true",
        "delta.appendOnly = true",
    ],
)
@pytest.mark.parametrize("zorder", [(), ("k",)])
def test_native_maintains_what_spark_wrote_and_changes_no_row(
    twins: Twins, properties: str, zorder: tuple[str, ...]
) -> None:
    twins.sql(
        "CREATE TABLE {table} (k BIGINT, m MAP<STRING, STRUCT<x: INT>>) USING delta "
        f"TBLPROPERTIES ({properties})"
    )
    spark, native = twins.spark, twins.readers[0]
    for n in (1, 2):
        spark.append(pa.table({"k": [n, 10 * n, 100 * n]}))
    if "appendOnly" not in properties:
        spark.delete("k in (1, 20)")
    before = canonical(spark.read())

    native.apply(native.stage(Optimize, zorder=zorder), first=spark.ledger() + 1)
    native.apply(native.stage(Vacuum, retention_hours=0, force=True), first=native.ledger() + 1)

    assert canonical(spark.read()) == canonical(native.read()) == before
    assert files(spark) == 1


def test_native_leaves_it_to_spark_to_compact_what_maps_columns(twins: Twins) -> None:
    twins.sql(
        "CREATE TABLE {table} (k BIGINT, `p q` STRING) USING delta "
        "PARTITIONED BY (`p q`) TBLPROPERTIES (delta.columnMapping.mode = 'name')"
    )
    spark, native = twins.spark, twins.readers[0]
    for n in (1, 2):
        spark.append(pa.table({"k": [n, 10 * n], "p q": ["y z", None]}))

    with pytest.raises(NotNative, match="column mapping"):
        native.apply(native.stage(Optimize), first=spark.ledger() + 1)
    spark.apply(spark.stage(Optimize, zorder=("k",)))
    native.apply(native.stage(Vacuum, retention_hours=0, force=True), first=spark.ledger() + 1)

    assert files(spark) == 2
    assert canonical(native.read()) == canonical(spark.read())
    assert len(native.read()) == 4


def test_after_z_order_a_condition_touches_fewer_files_of_about_the_size_asked_for(
    twins: Twins,
) -> None:
    random = Random(7)
    for _ in range(4):
        rows = {name: [random.randrange(10**6) for _ in range(5000)] for name in ("k", "j")}
        frame = pa.table(rows)
        twins.both(lambda t, frame=frame: t.append(frame))  # type: ignore[misc]
    before = twins.compare().sort_by([("k", "ascending"), ("j", "ascending")])
    assert [touched(a, k=300_000, j=700_000) for a in (twins.native, twins.spark)] == [4, 4]

    each(twins, does(Optimize, zorder=("k", "j"), target_bytes=24 * 1024))

    for applier in (twins.native, twins.spark):
        sizes = pa.table(DeltaTable(str(applier.path)).get_add_actions())["size_bytes"].to_pylist()
        assert len(sizes) >= 4
        assert max(sizes) < 4 * 24 * 1024
        assert touched(applier, k=300_000, j=700_000) <= len(sizes) / 2
        assert touched(applier, k=300_000) < len(sizes)
        assert touched(applier, j=700_000) < len(sizes)
    assert twins.compare().sort_by([("k", "ascending"), ("j", "ascending")]) == before


def touched(applier: Applier, **values: int) -> int:
    """Count the files that a condition on the values of columns cannot pass over."""
    told = pa.table(DeltaTable(str(applier.path)).get_add_actions(flatten=True)).to_pylist()
    return sum(
        all(file[f"min.{column}"] <= v <= file[f"max.{column}"] for column, v in values.items())
        for file in told
    )


def test_many_types_come_through_bins_as_they_were(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slicing, "_PACK_FILES", 2)
    monkeypatch.setattr(slicing, "_BIN_FILES", 2)
    for n in range(4):
        twins.both(lambda t, n=n: t.append(_of_many_types(n), partition_by=("p",)))  # type: ignore[misc]
    before = canonical(twins.compare())
    of_spark = twins.readers[0]  # native, with the table that Spark has written
    for applier in (twins.native, of_spark):
        applier.apply(applier.stage(Optimize), first=twins.spark.ledger() + 1)
        assert files(applier) == 2

    assert canonical(twins.compare()) == before
    everything = canonical(twins.spark.read())
    for where in ("d >= 1.5", "t > '2024-05-31T00:00:02Z'", "m = 2.50", "f is not null", "s = '2'"):
        chosen = canonical(twins.spark.read(where=where))
        assert chosen == canonical(twins.native.read(where=where))
        assert set(chosen) < set(everything)


def _of_many_types(n: int) -> pa.Table:
    moment = dt.datetime(2024, 5, 31, 0, 0, n, 123456)
    columns: dict[str, pa.Array] = {
        "p": pa.array([dt.date(2024, 5, 31), None]),
        "d": pa.array([float(n), float("nan") if n == 3 else None]),
        "t": pa.array([moment, None], pa.timestamp("us", "UTC")),
        "m": pa.array([Decimal(f"{n}.50"), None], pa.decimal128(10, 2)),
        "f": pa.array([n % 2 == 0, None]),
        "s": pa.array([str(n), "x" * 100]),
        "b": pa.array([bytes([n]), None]),
        "l": pa.array([[n, None], None], pa.list_(pa.int64())),
        "r": pa.array(
            [{"x": n, "y": None}, None], pa.struct([("x", pa.int32()), ("y", pa.string())])
        ),
        "a": pa.array([[("k", n)], None], pa.map_(pa.string(), pa.int64())),
    }
    return pa.table(columns)


def test_files_with_deletion_vectors_are_not_put_in_bins(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slicing, "_PACK_FILES", 2)
    monkeypatch.setattr(slicing, "_BIN_FILES", 2)
    twins.sql(
        "CREATE TABLE {table} (k BIGINT) USING delta "
        "TBLPROPERTIES (delta.enableDeletionVectors = true)"
    )
    spark, native = twins.spark, twins.readers[0]
    for n in range(4):
        spark.append(pa.table({"k": [n, 10 + n]}))
    native.apply(native.stage(Optimize, min_files=4), first=spark.ledger() + 1)
    assert files(spark) == 1  # none has one yet
    for n in range(4):
        spark.apply(spark.stage(Append, pa.table({"k": [n, 20 + n]})), first=spark.ledger() + 1)
    spark.apply(spark.stage(Delete, where="k = 2"), first=spark.ledger() + 1)

    native.apply(native.stage(Optimize), first=spark.ledger() + 1)

    assert files(spark) == 1
    assert sorted(spark.read()["k"].to_pylist()) == [
        0,
        0,
        1,
        1,
        3,
        3,
        *range(10, 14),
        *range(20, 24),
    ]
    assert canonical(spark.read()) == canonical(native.read())
