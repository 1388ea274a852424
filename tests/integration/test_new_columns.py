"""Files and the columns they bring become one commit, like one that delta-rs would have made."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import (
    CommitProperties,
    DeltaTable,
    Field,
    Schema,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError
from deltalake.schema import PrimitiveType
from deltalake.transaction import AddAction, RemoveAction

from deltaq.tasks.errors import CommitConflict
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines.native_new_columns import commit_with_columns
from deltaq.worker.ledger import log_entry

ADDED = [pa.field("extra", pa.string()), pa.field("at", pa.timestamp("us", "UTC"))]
#: As they are on disk; the log has them encoded.
FOLDER, VALUE = "g=a%2Fb c", "a/b c"


def make_table(path: Path, **configuration: str) -> DeltaTable:
    """Make a table with all that its metadata may have besides columns."""
    schema = Schema(
        [
            Field("id", PrimitiveType("long"), metadata={"comment": 'the "id"\n'}),
            Field("g", PrimitiveType("string"), nullable=True),
        ]
    )
    table = DeltaTable.create(
        str(path),
        schema,
        partition_by=["g"],
        name="prices",
        description="of é",
        configuration={"delta.logRetentionDuration": "interval 7 days", **configuration},
    )
    table.alter.add_constraint({"positive": "id >= 0"})
    write_deltalake(str(path), pa.table({"id": [1, 2], "g": [VALUE, "q"]}), mode="append")
    return DeltaTable(str(path))


def prepared(path: Path) -> AddAction:
    """Write a file with the new columns, in the folder of a partition with an awkward name."""
    rows = pa.table({"id": [3], "extra": ["e"], "at": pa.array([0], pa.timestamp("us", "UTC"))})
    file = path / FOLDER / "part é#.parquet"
    file.parent.mkdir(exist_ok=True)
    pq.write_table(rows, file)
    return AddAction(
        path=str(file.relative_to(path)),
        size=file.stat().st_size,
        partition_values={"g": VALUE},
        modification_time=time.time_ns() // 1_000_000,
        data_change=True,
        stats='{"numRecords":1}',
    )


def options() -> dict[str, Any]:
    return {
        "commit_properties": CommitProperties(
            custom_metadata={"userMetadata": "note"},
            app_transactions=[Transaction("deltaq/e/bulk", 7)],
            max_commit_retries=0,
        )
    }


def commit(
    table: DeltaTable, folder: Path, actions: list[AddAction | RemoveAction], staging: Path
) -> None:
    area = StagingArea(staging)
    commit_with_columns(table, folder, ADDED, actions, staging=area, options=options())
    assert list(area.work.iterdir()) == []


def actions_in(path: Path, version: int) -> dict[str, Any]:
    lines = [json.loads(line) for line in log_entry(path, version).read_bytes().splitlines()]
    return {name: action for line in lines for name, action in line.items()}


def test_the_commit_is_the_one_that_delta_rs_makes_in_two(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    table, twin = make_table(ours), make_table(theirs)
    before = (table.metadata().id, table.version())

    commit(table, ours, [prepared(ours)], tmp_path / "staging")
    twin.alter.add_columns(Schema.from_arrow(pa.schema(ADDED)).fields)
    twin.create_write_transaction([prepared(theirs)], "append", twin.schema(), ["g"], **options())

    found, expected = DeltaTable(str(ours)), DeltaTable(str(theirs))
    assert (found.metadata().id, found.version() - 1) == before
    assert json.loads(found.schema().to_json()) == json.loads(expected.schema().to_json())
    told, known = (actions_in(path, t.version()) for path, t in ((ours, found), (theirs, expected)))
    schema = actions_in(theirs, expected.version() - 1)["metaData"]
    for name in ("name", "description", "format", "partitionColumns", "configuration"):
        assert told["metaData"][name] == schema[name]
    assert told["add"]["path"] == known["add"]["path"] == "g=a%252Fb%20c/part%20%C3%A9%23.parquet"
    assert told["txn"]["version"] == found.transaction_version("deltaq/e/bulk") == 7
    assert next(iter(told)) == "commitInfo"
    assert found.history(1)[0]["userMetadata"] == "note"
    rows = found.to_pyarrow_table().sort_by("id").select(["id", "g", "extra"]).to_pydict()
    assert rows == {"id": [1, 2, 3], "g": [VALUE, "q", VALUE], "extra": [None, None, "e"]}


def test_delta_rs_goes_on_with_such_a_table(tmp_path: Path) -> None:
    table = make_table(tmp_path / "t")
    commit(table, tmp_path / "t", [prepared(tmp_path / "t")], tmp_path / "staging")
    table = DeltaTable(str(tmp_path / "t"))
    table.create_checkpoint()
    write_deltalake(
        table, pa.table({"id": [4], "g": ["q"], "extra": ["f"]}), mode="append", schema_mode="merge"
    )
    assert DeltaTable(str(tmp_path / "t")).to_pyarrow_table().num_rows == 4
    assert table.delete()["num_deleted_rows"] == 4
    assert DeltaTable(str(tmp_path / "t")).file_uris() == []


def test_files_are_replaced_in_the_same_commit(tmp_path: Path) -> None:
    path = tmp_path / "t"
    table = make_table(path)
    gone = [
        RemoveAction(
            path=unquote(file["path"]),
            data_change=True,
            deletion_timestamp=0,
            size=file["size_bytes"],
            partition_values=dict(file["partition"]),
        )
        for file in pa.table(table.get_add_actions()).to_pylist()
    ]
    commit(table, path, [prepared(path), *gone], tmp_path / "staging")
    assert DeltaTable(str(path)).to_pyarrow_table(columns=["id"]).to_pydict() == {"id": [3]}


def test_who_is_second_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t"
    table = make_table(path)
    write_deltalake(str(path), pa.table({"id": [9], "g": ["q"]}), mode="append")
    version = DeltaTable(str(path)).version()
    with pytest.raises(CommitConflict, match=f"has committed version {version}"):
        commit(table, path, [prepared(path)], tmp_path / "staging")
    assert DeltaTable(str(path)).version() == version
    assert "extra" not in DeltaTable(str(path)).schema().to_arrow().names


def test_rows_of_an_append_only_table_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t"
    table = make_table(path, **{"delta.appendOnly": "true"})
    gone = RemoveAction(
        path="x.parquet", data_change=True, deletion_timestamp=0, size=1, partition_values={}
    )
    with pytest.raises(CommitFailedError, match="append-only"):
        commit(table, path, [prepared(path), gone], tmp_path / "staging")
    commit(table, path, [prepared(path)], tmp_path / "staging")
    assert DeltaTable(str(path)).to_pyarrow_table().num_rows == 3
