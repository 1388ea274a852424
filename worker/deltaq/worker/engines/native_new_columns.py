"""Commits files and the columns that a table lacks for them at once, which delta-rs does apart.

delta-rs writes the commit into the log of an empty table that has the columns already, made for
this. What it wrote, and the new schema, become the next entry of the real log if there is none:
so paths, statistics and ledger are as delta-rs writes them, and all of it is visible, or nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.transaction import AddAction, RemoveAction

from deltaq.tasks import location
from deltaq.tasks.errors import CommitConflict
from deltaq.tasks.location import Location
from deltaq.tasks.staging import StagingArea
from deltaq.worker.ledger import log_entry


def commit_with_columns(
    table: DeltaTable,
    path: Location,
    added: Sequence[pa.Field],
    actions: Sequence[AddAction | RemoveAction],
    *,
    staging: StagingArea,
    options: dict[str, Any],
) -> None:
    """Commit to a table that neither maps columns nor needs another protocol for the new ones.

    Args:
        table: The table; what is committed is its next version.
        path: Where it is.
        added: The columns.
        actions: Files to add and to remove.
        staging: Where there is room for the empty table.
        options: As ``commit_options`` makes them.

    Raises:
        CommitConflict: There is a next version already; nothing was written.
        DeltaError: delta-rs refuses the actions; likewise.
        OSError: The storage refused.
    """
    metadata = _metadata(table, added)
    scratch = staging.new_work_path()
    try:
        lines = _written(scratch, table, metadata["schemaString"], actions, options)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    lines.insert(1, msgspec.json.encode({"metaData": metadata}))  # commitInfo is the first
    version = table.version() + 1
    try:
        with location.create(log_entry(path, version)) as file:
            file.write(b"\n".join(lines) + b"\n")
    except FileExistsError as exc:
        raise CommitConflict(f"{path}: somebody else has committed version {version}") from exc


def _metadata(table: DeltaTable, added: Sequence[pa.Field]) -> dict[str, Any]:
    """Write the ``metaData`` action of a table that has columns more."""
    known = table.metadata()
    schema = json.loads(table.schema().to_json())
    schema["fields"] += json.loads(Schema.from_arrow(pa.schema(added)).to_json())["fields"]
    return {
        "id": str(known.id),
        "name": known.name,
        "description": known.description,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps(schema, ensure_ascii=False, separators=(",", ":")),
        "partitionColumns": known.partition_columns,
        "createdTime": known.created_time,
        "configuration": known.configuration,
    }


def _written(
    scratch: Path,
    table: DeltaTable,
    schema: str,
    actions: Sequence[AddAction | RemoveAction],
    options: dict[str, Any],
) -> list[bytes]:
    """Have delta-rs write a commit, and return its lines."""
    known = table.metadata()
    columns = Schema.from_json(schema)
    # The one property by which delta-rs refuses actions.
    kept = {k: v for k, v in known.configuration.items() if k == "delta.appendOnly"}
    twin = DeltaTable.create(
        str(scratch), columns, partition_by=known.partition_columns, configuration=kept
    )
    twin.create_write_transaction(
        list(actions), "append", columns, known.partition_columns, **options
    )
    return log_entry(scratch, 1).read_bytes().splitlines()
