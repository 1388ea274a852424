"""Folders that become tables, checkpoints and analyses: the same on both engines."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from deltaq.tasks.errors import InvalidRequest, SchemaMismatch, TableExists, TableNotFound
from deltaq.tasks.location import Location, create, make_folder
from deltaq.tasks.request import Checkpoint, Column, Convert, Request
from deltaq.worker.engines import NotNative, spark_commands
from tests.support.applying import Applier
from tests.support.twins import Act, Twins, canonical

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.on_disk("a folder in S3 is not converted"),
]

DAY = (Column(name="day", type="date"),)


def does(kind: type[Request], **fields: Any) -> Act:
    return lambda t: t.apply(t.stage(kind, **fields))


def put(twins: Twins, name: str, rows: pa.Table) -> None:
    for applier in (twins.native, twins.spark):
        (applier.path / name).unlink(missing_ok=True)
        with create(applier.path / name) as file:
            pq.write_table(rows, file)


def logs(twins: Twins) -> list[Location]:
    found = [a.path / "_delta_log" for a in (twins.native, twins.spark)]
    return [log for log in found if log.exists()]


def test_a_partitioned_folder_becomes_a_table_where_it_is_and_takes_appends(twins: Twins) -> None:
    put(twins, "day=2024-05-30/a.parquet", pa.table({"k": [1, 2], "s": ["x", None]}))
    put(twins, "day=2024-05-31/b b.parquet", pa.table({"k": [3], "s": ["y"]}))
    put(twins, "day=__HIVE_DEFAULT_PARTITION__/c.parquet", pa.table({"k": [4], "s": ["z"]}))

    native, spark = (does(Convert, partition_by=DAY)(t) for t in (twins.native, twins.spark))

    assert (native.version, spark.version) == (0, 1)  # Spark's ledger in a commit of its own
    assert twins.compare().num_rows == 4
    assert {a.ledger() for a in (twins.native, twins.spark, *twins.readers)} == {0}
    assert type(twins.refused(does(Convert, partition_by=DAY))) is TableExists
    more = pa.table({"day": [dt.date(2024, 6, 1)], "k": [5], "s": ["w"]})
    for applier in (twins.native, twins.spark):
        applier.append(more)
    assert sorted(twins.compare(where="day > '2024-05-30'")["k"].to_pylist()) == [3, 5]


def test_a_conversion_by_spark_whose_ledger_was_not_moved_is_not_refused_as_done(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(twins, "a.parquet", pa.table({"k": [1, 2]}))
    request = twins.spark.stage(Convert)
    group = twins.spark.group(request)
    with monkeypatch.context() as patch:
        patch.setattr(spark_commands, "advance_ledger", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            twins.spark.apply_group(group)
    assert twins.spark.ledger() == -1

    assert twins.spark.apply_group(group).version == 1

    assert twins.spark.ledger() == 0
    assert twins.readers[0].read()["k"].to_pylist() == [1, 2]


def test_a_folder_that_can_be_no_table_is_refused_in_the_same_words_and_left_alone(
    twins: Twins,
) -> None:
    assert type(twins.refused(does(Convert))) is TableNotFound
    for applier in (twins.native, twins.spark):
        make_folder(applier.path)
        (applier.path / "notes.txt").write_text("none")
    assert "no Parquet files" in twins.refused(does(Convert)).message
    put(twins, "day=1/a.parquet", pa.table({"k": [1]}))

    refused = twins.refused(does(Convert))
    assert type(refused) is InvalidRequest
    assert "partitioned by day, not by nothing" in refused.message
    put(twins, "day=1/b.parquet", pa.table({"k": ["text"]}))
    refused = twins.refused(does(Convert, partition_by=DAY))
    assert type(refused) is SchemaMismatch
    assert "day=1/b.parquet does not fit" in refused.message
    for applier in (twins.native, twins.spark):
        (applier.path / "day=1/b.parquet").write_text("no Parquet at all")
    refused = twins.refused(does(Convert, partition_by=DAY))
    assert type(refused) is InvalidRequest
    assert "day=1/b.parquet is no Parquet file" in refused.message
    put(twins, "day=1/b.parquet", pa.table({"k": [1], "t": pa.array([1], pa.timestamp("ns"))}))
    refused = twins.refused(does(Convert, partition_by=DAY))
    assert type(refused) is SchemaMismatch
    assert "column 't' of day=1/b.parquet is timestamp[ns]" in refused.message
    put(twins, "day=1/b.parquet", pa.table({"k": [1]}))
    put(twins, "elsewhere/c.parquet", pa.table({"k": [1]}))
    refused = twins.refused(does(Convert, partition_by=DAY))
    assert "is in a folder that is no partition" in refused.message

    assert logs(twins) == []


def test_native_leaves_names_that_it_would_misread_to_spark(twins: Twins) -> None:
    put(twins, "s=a%3Ab/_other.parquet", pa.table({"other": [1]}))
    put(twins, "s=a%3Ab/a.parquet", pa.table({"k": [1]}))
    convert = does(Convert, partition_by=(Column(name="s", type="string"),))

    with pytest.raises(NotNative, match="has a '%'"):
        convert(twins.native)
    convert(twins.spark)

    assert twins.readers[0].read()["s"].to_pylist() == ["a:b"]
    assert twins.spark.read()["s"].to_pylist() == ["a:b"]


def test_a_checkpoint_is_written_and_the_ledger_moves(twins: Twins) -> None:
    assert type(twins.refused(does(Checkpoint))) is TableNotFound
    for n in range(3):
        twins.both(lambda t, n=n: t.append(pa.table({"k": [n]})))  # type: ignore[misc]
    before = canonical(twins.compare())

    twins.both(does(Checkpoint))

    for applier in (twins.native, twins.spark):
        assert [f.name[18:20] for f in applier.path.glob("_delta_log/*.checkpoint.parquet")] == [
            "02"
        ]
        assert DeltaTable(str(applier.path)).version() == 3
    assert canonical(twins.compare()) == before
    assert {a.ledger() for a in (twins.native, twins.spark, *twins.readers)} == {4}


def analyses(twins: Twins) -> list[dict[str, Any]]:
    appliers: list[Applier] = [twins.native, twins.spark, *twins.readers]
    return [a.engine.analyze("prices") for a in appliers]


def test_an_analysis_tells_of_rows_sizes_and_partitions(twins: Twins) -> None:
    for n in range(3):
        rows = pa.table({"day": ["a", "a", None], "k": [n, n, n]})
        twins.both(lambda t, rows=rows: t.append(rows, partition_by=("day",)))  # type: ignore[misc]

    for told in analyses(twins):
        assert (told["files"], told["rows"], told["small_files"]) == (6, 9, 6)
        assert (told["needed_files"], told["partitions"]) == (2, 2)
        assert {(str(p["values"]), p["files"], p["rows"]) for p in told["largest_partitions"]} == {
            ("{'day': 'a'}", 3, 6),
            ("{'day': None}", 3, 3),
        }
        (size,) = told["file_sizes"]
        assert (size["below_bytes"], size["files"]) == (4096, 6)
        assert size["size_bytes"] == told["size_bytes"]
        assert told["suggestions"] == [
            "6 files where 2 would do, up to 3 in one partition: optimize it, or let its policy "
            "(compact_files)"
        ]
