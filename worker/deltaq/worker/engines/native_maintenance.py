"""Maintenance with delta-rs: verbs that change how a table is stored, and no row of it.

delta-rs lets nobody add the ledger to the commits that it makes here, so a commit without data
moves it after the last of them. Whoever dies in between leaves work that need not be done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties

from deltaq.tasks.request import (
    Checkpoint,
    Maintenance,
    Optimize,
    Vacuum,
    operation_of,
)
from deltaq.tasks.slices import Slices
from deltaq.worker.durable import sync_commit
from deltaq.worker.engines import NotNative
from deltaq.worker.engines.handles import Handle
from deltaq.worker.engines.native_limits import maps_columns
from deltaq.worker.engines.verb_rules import check_optimize, check_retention, lists_folder
from deltaq.worker.maintenance.analysis import analyse
from deltaq.worker.maintenance.slicing import TARGET_BYTES, Partition, packs, to_rewrite
from deltaq.worker.maintenance.unneeded import files_told, remove_checksums, remove_files

#: Seconds after which a slice ends with the commit that it is at.
_SLICE_SECONDS = 0.5
#: Files removed between two looks at the clock.
_REMOVED_AT_ONCE = 500
#: delta-rs would write a checkpoint every so many versions, in the middle of a slice.
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)

#: Chooses those of a table's partitions for which a condition holds.
Matching = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of a slice.

    Attributes:
        value: What the outcome tells.
        more: Set when another slice is to follow.
    """

    value: Any = None
    more: Slices | None = None


def maintain(
    handle: Handle,
    request: Maintenance,
    *,
    begun: Slices | None,
    matching: Matching,
    keep_versions: Sequence[int] = (),
) -> Done:
    """Do a slice of what a request asks for, durably; the handle is then at the newest version.

    Args:
        handle: The table.
        request: The request.
        begun: How far earlier slices came.
        matching: Chooses the partitions that the request's condition is about.
        keep_versions: Versions whose files a vacuum leaves alone.

    Raises:
        SchemaMismatch: A column to order by is not in the table, or partitions it.
        InvalidRequest: A vacuum of less than a week, without ``force``.
        CommitConflict: Somebody changed the same files meanwhile.
        NotNative: delta-rs does not compact such a table.
    """
    table = handle.existing()
    before = table.version()
    if isinstance(request, Optimize):
        check_optimize(request, handle.schema, table.metadata().partition_columns)
        if maps_columns(table):
            raise NotNative("compacting a table with column mapping")
        done = _optimize(table, request, begun, matching)
    elif isinstance(request, Checkpoint):
        handle.checkpoint()
        table, done = DeltaTable(str(handle.path)), Done()
    else:
        check_retention(request)
        done = _vacuum(handle, request, begun, keep_versions)
    for version in range(before + 1, table.version() + 1):
        sync_commit(handle.path, version)
    handle.forget()
    handle.refresh()
    return done


def _optimize(
    table: DeltaTable, request: Optimize, begun: Slices | None, matching: Matching
) -> Done:
    ordered = bool(request.zorder)
    columns = table.metadata().partition_columns
    found = partitions(table, request.target_bytes or TARGET_BYTES)
    if request.where is not None:
        wanted = _rows_of(matching(_as_table(table, columns, found)))
        found = [p for p in found if p.values in wanted]
    todo = to_rewrite(found, ordered=ordered, min_files=request.min_files)
    if not columns or not all(map(_can_be_named, todo)):
        if todo:  # all partitions at once, those with little to do as well
            _rewrite(table, request, None)
        return Done()
    left = [p for p in todo if begun is None or p.key > begun.at]
    done, until = begun.done if begun else 0, time.monotonic() + _SLICE_SECONDS
    total = done + len(left)
    # Only a condition on a single column can name several of its values.
    several = packs(left, ordered=ordered) if len(columns) == 1 else ([p] for p in left)
    for pack in several:
        _rewrite(table, request, _filters(columns, pack))
        done += len(pack)
        if done < total and time.monotonic() > until:
            return Done(more=_slices(request, done=done, total=total, at=pack[-1].key))
    return Done()


def _rewrite(table: DeltaTable, request: Optimize, filters: Any) -> None:
    # Unlike Spark, delta-rs does not tell in the log along which columns.
    told = {"zOrderBy": msgspec.json.encode(request.zorder).decode()} if request.zorder else None
    options: dict[str, Any] = {
        "partition_filters": filters,
        "target_size": request.target_bytes,
        "commit_properties": CommitProperties(max_commit_retries=0, custom_metadata=told),
        "post_commithook_properties": _NO_HOOKS,
    }
    if request.zorder:
        table.optimize.z_order(list(request.zorder), **options)
    else:
        table.optimize.compact(**options)


def _filters(columns: Sequence[str], pack: Sequence[Partition]) -> list[tuple[str, str, Any]]:
    if len(columns) == 1:
        return [(columns[0], "in", [p.values[0] for p in pack])]
    (partition,) = pack
    return [(c, "=", value) for c, value in zip(columns, partition.values, strict=True)]


def _can_be_named(partition: Partition) -> bool:
    """Tell whether delta-rs takes the values of a partition in a condition; no null, no bytes."""
    return not any(value is None or isinstance(value, bytes) for value in partition.values)


def partitions(table: DeltaTable, target_bytes: int) -> list[Partition]:
    """List the partitions of a table that have files."""
    actions = pa.table(table.get_add_actions(flatten=True))
    names = [f"partition.{c}" for c in table.metadata().partition_columns]
    sizes = actions["size_bytes"]
    small = pc.less(sizes, target_bytes)
    counted = pa.table(
        [
            *(actions[name] for name in names),
            sizes,
            small.cast(pa.int64()),
            pc.if_else(small, sizes, 0),
        ],
        names=[*names, "size", "small", "small_size"],
    )
    grouped = counted.group_by(names).aggregate(
        [("size", "count"), ("size", "sum"), ("small", "sum"), ("small_size", "sum")]
    )
    return [
        Partition(
            values=tuple(row[name] for name in names),
            files=row["size_count"],
            size_bytes=row["size_sum"],
            small_files=row["small_sum"],
            small_bytes=row["small_size_sum"],
        )
        for row in grouped.to_pylist()
        if row["size_count"]
    ]


def analyze(table: DeltaTable) -> dict[str, Any]:
    """Tell in JSON values how a table is stored."""
    columns = table.metadata().partition_columns
    actions = pa.table(table.get_add_actions(flatten=True))
    told = [actions[name] for name in ("size_bytes", "num_records")]
    values = [actions[f"partition.{column}"] for column in columns]
    return analyse(pa.table([*told, *values], names=["size_bytes", "rows", *columns]), columns)


def _as_table(table: DeltaTable, columns: Sequence[str], found: Sequence[Partition]) -> pa.Table:
    schema = pa.schema(table.schema().to_arrow())
    fields = pa.schema([schema.field(column) for column in columns])
    rows = [dict(zip(columns, p.values, strict=True)) for p in found]
    return pa.Table.from_pylist(rows, schema=fields)


def _rows_of(table: pa.Table) -> set[tuple[Any, ...]]:
    return set(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _vacuum(
    handle: Handle, request: Vacuum, begun: Slices | None, keep_versions: Sequence[int]
) -> Done:
    found = _left(handle, request, keep_versions)
    if request.dry_run:
        return Done(value=files_told(handle.path, found))
    done, until = begun.done if begun else 0, time.monotonic() + _SLICE_SECONDS
    total = done + len(found)
    while found:
        chunk = found[-_REMOVED_AT_ONCE:]
        remove_files(handle.path, chunk)
        del found[-_REMOVED_AT_ONCE:]
        done += len(chunk)
        if found and time.monotonic() > until:
            return Done(more=_slices(request, done=done, total=total))
    handle.unneeded = (None, [])
    remove_checksums(handle.path)
    return Done()


def _left(handle: Handle, request: Vacuum, keep_versions: Sequence[int]) -> list[str]:
    """List what a vacuum is to remove; after its first slice, what is left of that list.

    A list of many files takes longer than to remove them. Since it was made, a restore may have
    brought some of them back.
    """
    table = handle.existing()
    vacuum = (request.request_id, request.retention_hours, tuple(keep_versions))
    if handle.unneeded[0] == vacuum:
        # By the last part, which no folder's way of writing a value changes.
        needed = {uri.rpartition("/")[2] for uri in table.file_uris()}
        found = [n for n in handle.unneeded[1] if n.rpartition("/")[2] not in needed]
    else:
        found = _unneeded(
            table, hours=request.retention_hours, force=request.force, keep_versions=keep_versions
        )
    handle.unneeded = (None, []) if request.dry_run else (vacuum, found)
    return found


def remove_unneeded(table: DeltaTable, path: Path, *, hours: int, force: bool) -> None:
    """Remove the files that no version of the last hours needs, all of them at once."""
    remove_files(path, _unneeded(table, hours=hours, force=force))
    remove_checksums(path)


def _unneeded(
    table: DeltaTable, *, hours: int, force: bool, keep_versions: Sequence[int] = ()
) -> list[str]:
    # delta-rs would remove them one after the other, and commit twice.
    return table.vacuum(
        hours,
        dry_run=True,
        enforce_retention_duration=not force,
        full=lists_folder(hours, table.metadata().configuration),
        keep_versions=list(keep_versions),
    )


def _slices(request: Optimize | Vacuum, *, done: int, total: int, at: str = "") -> Slices:
    return Slices(
        request_id=request.request_id,
        operation=operation_of(request),
        done=done,
        total=total,
        at=at,
    )
