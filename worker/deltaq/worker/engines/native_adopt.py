"""Makes the prepared files of a backfill part of a table: one commit, with delta-rs.

No engine is chosen for it: no row is read, so it takes no memory, and no Spark.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from deltaq.tasks.backfill import Backfill, Ending, Prepared, PreparedFile
from deltaq.tasks.errors import (
    EngineRefused,
    InvalidRequest,
    SchemaMismatch,
    StagedDataMissing,
    StorageUnavailable,
)
from deltaq.tasks.location import Location
from deltaq.tasks.manifest import Manifest
from deltaq.tasks.request import Adopt
from deltaq.tasks.signing import Signer
from deltaq.tasks.staging import StagingArea
from deltaq.worker import ledger
from deltaq.worker.backfill.names import partition_value
from deltaq.worker.backfill.plan import LoadPlan
from deltaq.worker.backfill.preparing import planned, table_at
from deltaq.worker.durable import sync_commit
from deltaq.worker.engines import Commit, NotNative, RowCounts
from deltaq.worker.engines.native_commit import commit_options
from deltaq.worker.engines.native_errors import native_errors
from deltaq.worker.engines.native_limits import features
from deltaq.worker.engines.native_new_columns import commit_with_columns
from deltaq.worker.engines.urls import storage_options
from deltaq.worker.groups import CommitGroup
from deltaq.worker.lake import Lake
from deltaq.worker.ledger import NOTHING


class Adopter:
    """Adopts what was prepared.

    Args:
        lake: Where the tables are.
        staging: Where the backfills are.
        signer: Checks what workers and clients wrote there, where settings ask for that.
    """

    def __init__(self, lake: Lake, staging: StagingArea, signer: Signer | None) -> None:
        self._lake = lake
        self._staging = staging
        self._signer = signer

    def adopt(self, group: CommitGroup) -> Commit:
        """Make one Delta commit of all files of a backfill, and the ledger, or none.

        It is durable when this returns.

        Raises:
            RequestError: The backfill was given up, or the table has changed so that its files
                do not fit; nothing was written.
            CommitConflict: Somebody else committed first.
            StorageUnavailable: It may succeed later.
        """
        request = group.first
        assert isinstance(request, Adopt)
        path = self._lake.path(request.table)
        try:
            with native_errors(request.table):
                deleted, version = self._adopt(group, request, path)
        except NotNative as refusal:
            raise EngineRefused(
                f"table {request.table}: {refusal.reason}; append the rows instead",
                table=request.table,
            ) from refusal
        sync_commit(path, version)
        return Commit(version=version, counts=(RowCounts(inserted=request.rows, deleted=deleted),))

    def _adopt(self, group: CommitGroup, request: Adopt, path: Location) -> tuple[int | None, int]:
        backfill = Backfill(self._staging, request.request_id, self._signer)
        manifest, table = backfill.manifest(), table_at(path)
        parts = _parts(backfill, manifest)
        reached = table.transaction_version(group.app_id) if table else None
        if group.is_late(NOTHING if reached is None else reached):
            raise ledger.moved(group, NOTHING if reached is None else reached)
        plan = planned(manifest, path)
        files = [file for part in parts for file in _checked(part, plan, manifest)]
        _check_there(path, files)
        _check_wanted(backfill)
        if table is None:
            _create(path, plan, files, group)
            return 0, 0
        actions, deleted = _changes(table, request, plan, files)
        self._commit(table, request, plan, actions, group)
        return deleted, table.version() + 1  # there is no second try: it is the next or none

    def _commit(
        self,
        table: DeltaTable,
        request: Adopt,
        plan: LoadPlan,
        actions: list[AddAction | RemoveAction],
        group: CommitGroup,
    ) -> None:
        options = commit_options(group)
        if plan.added:
            path, staging = self._lake.path(request.table), self._staging
            commit_with_columns(table, path, plan.added, actions, staging=staging, options=options)
            return
        table.create_write_transaction(
            actions, "append", Schema.from_arrow(plan.whole), list(plan.partition_by), **options
        )


def _parts(backfill: Backfill, manifest: Manifest) -> list[Prepared]:
    _check_wanted(backfill)
    parts = backfill.parts(manifest)
    found = [backfill.part(part.number) for part in parts]
    # What comes from before it was resumed is of a process that was stopped then.
    notes = [n for n in found if n and not n.pieces and n.resumed == manifest.resumed]
    if len(notes) < len(parts):
        raise InvalidRequest(
            f"backfill {backfill.backfill_id}: {len(parts) - len(notes)} of {len(parts)} parts are "
            "not prepared; resume it"
        )
    return notes


def _check_wanted(backfill: Backfill) -> None:
    verdict = backfill.verdict()
    if verdict is None or verdict.ending is not Ending.ADOPTING:
        became = verdict.ending if verdict else "not prepared"
        raise InvalidRequest(
            f"backfill {backfill.backfill_id} is {became}; resume it with "
            f"'deltaq backfill resume {backfill.backfill_id}'"
        )


def _checked(part: Prepared, plan: LoadPlan, manifest: Manifest) -> Iterable[PreparedFile]:
    """Return the files of a part, if they are still what the table takes."""
    lost = set(plan.rules) - set(part.rules)
    changed = {column for column, _ in plan.types.items() ^ part.types.items()}
    for file in part.files:
        changed |= file.partition_values.keys() ^ set(plan.partition_by)
    if lost or changed:
        what = [*sorted(lost), *sorted(changed)]
        raise SchemaMismatch(
            f"table {manifest.table} was changed while part {part.number} was prepared, in "
            f"{', '.join(what)}; resume the backfill, which prepares its files anew",
            table=manifest.table,
            details={"part": part.number, "changed": what},
        )
    return part.files


def _check_there(table: Location, files: Sequence[PreparedFile]) -> None:
    for file in files:
        try:
            size = (table / file.path).stat().st_size
        except FileNotFoundError:
            size = None
        except OSError as exc:
            raise StorageUnavailable(f"{table / file.path}: {exc.strerror}") from exc
        if size != file.size_bytes:
            raise StagedDataMissing(
                f"{table / file.path}: the prepared file is gone or has changed; resume the "
                "backfill, which prepares it anew"
            )


def _create(
    path: Location, plan: LoadPlan, files: Sequence[PreparedFile], group: CommitGroup
) -> None:
    create_table_with_add_actions(
        str(path),
        Schema.from_arrow(plan.whole),
        _added(files),
        mode="error",
        partition_by=list(plan.partition_by),
        storage_options=storage_options(path),
        **commit_options(group),
    )


def _changes(
    table: DeltaTable, request: Adopt, plan: LoadPlan, files: Sequence[PreparedFile]
) -> tuple[list[AddAction | RemoveAction], int | None]:
    """List what is added and removed, and tell how many rows are replaced."""
    actions: list[AddAction | RemoveAction] = list(_added(files))
    if request.mode == "append":
        return actions, 0
    replaced = _replaced(table, request, plan.whole, files)
    return actions + _removed(replaced), _count(replaced)


def _replaced(
    table: DeltaTable, request: Adopt, schema: pa.Schema, files: Sequence[PreparedFile]
) -> list[dict[str, Any]]:
    """List the files of the table that the new ones replace."""
    if "deletionVectors" in features(table):
        raise EngineRefused(
            f"table {request.table} has deletion vectors, which mode={request.mode!r} would have "
            "to remove with its files: overwrite its rows instead",
            table=request.table,
        )
    there: list[dict[str, Any]] = pa.table(table.get_add_actions()).to_pylist()
    kinds = {c: schema.field(c).type for c in table.metadata().partition_columns}
    for file in there:
        values = file.get("partition") or {}
        file["values"] = {c: partition_value(values[c], kind) for c, kind in kinds.items()}
    if request.mode == "overwrite":
        return there
    new = {tuple(file.partition_values[c] for c in kinds) for file in files}
    return [file for file in there if tuple(file["values"].values()) in new]


def _added(files: Sequence[PreparedFile]) -> list[AddAction]:
    now = time.time_ns() // 1_000_000
    return [
        AddAction(
            path=file.path,
            size=file.size_bytes,
            partition_values=file.partition_values,
            modification_time=now,
            data_change=True,
            stats=file.stats,
        )
        for file in files
    ]


def _removed(files: Sequence[dict[str, Any]]) -> list[RemoveAction]:
    now = time.time_ns() // 1_000_000
    return [
        RemoveAction(
            path=unquote(file["path"]),
            data_change=True,
            deletion_timestamp=now,
            size=file["size_bytes"],
            partition_values=file["values"],
        )
        for file in files
    ]


def _count(files: Sequence[dict[str, Any]]) -> int | None:
    rows = [file["num_records"] for file in files]
    return None if None in rows else sum(rows)
