"""The verbs of tables with delta-rs; each makes one commit, with the ledger in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable, Field, convert_to_deltalake
from deltalake import Schema as DeltaSchema

from deltaq.tasks.errors import VersionNotFound
from deltaq.tasks.query import Read
from deltaq.tasks.request import (
    AddColumn,
    Convert,
    Create,
    RenameColumn,
    Restore,
    SetProperties,
    TableChange,
)
from deltaq.worker.engines import NotNative, native_reads
from deltaq.worker.engines.asked import check_version
from deltaq.worker.engines.evolve import has_ntz
from deltaq.worker.engines.handles import Handle
from deltaq.worker.engines.native_limits import check_evolvable, check_partition_types, features
from deltaq.worker.engines.urls import open_table
from deltaq.worker.engines.verb_rules import (
    check_policy,
    check_properties,
    check_rename,
    new_column,
    new_table,
    table_exists,
)
from deltaq.worker.maintenance.folders import check_folder

#: Properties of Delta that neither need a feature nor mean something else to delta-rs.
_PLAIN = {
    "delta.checkpointInterval": r"[1-9]\d*",
    "delta.dataSkippingNumIndexedCols": r"-1|\d+",
    "delta.logRetentionDuration": r"interval \d+ (days?|hours?|weeks?)",
    "delta.deletedFileRetentionDuration": r"interval \d+ (days?|hours?|weeks?)",
}


def create(handle: Handle, request: Create, **commit: Any) -> None:
    """Create a table without rows.

    Raises:
        TableExists: It is there.
        NotNative: Spark is to see to its properties or partitions.
    """
    if handle.table is not None:
        raise table_exists(request.table)
    schema = new_table(request)
    _check_plain(request.properties)
    if has_ntz(schema) and not all(field.nullable for field in schema):
        raise NotNative("its columns need features that delta-rs does not name together")
    check_partition_types(schema, request.partition_by)
    DeltaTable.create(
        str(handle.path),
        schema,
        mode="error",
        partition_by=list(request.partition_by),
        description=request.comment,
        configuration=request.properties,
        # Else it refuses properties that are the user's own.
        raise_if_key_not_exists=False,
        **commit,
    )


def convert(handle: Handle, request: Convert, **commit: Any) -> None:
    """Make a table of the Parquet files in its folder.

    Raises:
        TableExists: It is a Delta table already.
        RequestError: The folder cannot be one.
        NotNative: delta-rs would not read it.
    """
    if handle.table is not None:
        raise table_exists(request.table)
    folder = check_folder(handle.path, request)
    if folder.needs_spark is not None:
        raise NotNative(folder.needs_spark)
    check_partition_types(folder.partitions, folder.partitions.names)
    convert_to_deltalake(
        str(handle.path),
        partition_by=DeltaSchema.from_arrow(folder.partitions) if request.partition_by else None,
        partition_strategy="hive" if request.partition_by else None,
        **commit,
    )


def change(handle: Handle, request: TableChange, **commit: Any) -> None:
    """Change a table besides its rows; no commit when it is so already.

    Raises:
        RequestError: It cannot be.
        NotNative: Spark can.
    """
    table = handle.existing()
    match request:
        case Restore():
            _restore(handle, request, **commit)
        case SetProperties():
            check_properties(request)
            check_policy(request, handle.schema, table.metadata().partition_columns)
            _check_plain(request.properties)
            table.alter.set_table_properties(
                request.properties, raise_if_not_exists=False, **commit
            )
        case AddColumn():
            field = new_column(request, handle.schema, features(table))
            check_evolvable(table)
            added: list[Field] = DeltaSchema.from_arrow(pa.schema([field])).fields
            table.alter.add_columns(added, **commit)
        case RenameColumn():
            check_rename(request, handle.schema, table.metadata().configuration)
            raise NotNative("a column gets another name")


def _restore(handle: Handle, request: Restore, **commit: Any) -> None:
    table = handle.existing()
    if request.version is not None:
        version = check_version(
            request.version, table.version(), name=request.table, path=handle.path
        )
    else:
        asked = Read(
            request_id=request.request_id,
            client_id=request.client_id,
            table=request.table,
            timestamp=request.timestamp,
        )
        version = native_reads.at_version(handle, asked).version()
    if version < table.version():
        if "deletionVectors" in features(table):
            raise NotNative("a restore of a table with deletion vectors")
        _check_files(handle, request, version)
        table.restore(version, **commit)


def _check_files(handle: Handle, request: Restore, version: int) -> None:
    """Make sure that the files of a version are still there.

    Raises:
        VersionNotFound: A vacuum has removed some.
    """
    told = open_table(handle.path, version=version).get_add_actions(flatten=True)
    files = [handle.path / unquote(name) for name in told.column("path").to_pylist()]
    gone = [file for file in files if not file.is_file()]
    if gone:
        raise VersionNotFound(
            f"table {request.table}: version {version} cannot be restored: {len(gone)} of its "
            f"{len(files)} files were removed by a vacuum",
            table=request.table,
            details={"version": version, "missing": gone[0].name},
        )


def _check_plain(properties: Mapping[str, str]) -> None:
    for name, value in properties.items():
        ours = not name.lower().startswith("delta.")
        if not ours and not re.fullmatch(_PLAIN.get(name, "(?!)"), value, re.IGNORECASE):
            raise NotNative(f"property {name!r} is for Spark to check")
