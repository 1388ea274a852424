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

import pyarrow as pa
from deltalake import DeltaTable

from deltaq.tasks.location import Location
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
from deltaq.worker.engines.handles import NOTHING_UNNEEDED, Handle
from deltaq.worker.engines.native_limits import maps_columns
from deltaq.worker.engines.native_optimize import SLICE_SECONDS, Matching, optimize
from deltaq.worker.engines.verb_rules import check_optimize, check_retention, lists_folder
from deltaq.worker.maintenance.analysis import analyse
from deltaq.worker.maintenance.unneeded import files_told, remove_checksums, remove_files

#: Files removed between two looks at the clock.
_REMOVED_AT_ONCE = 500


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
    told: str,
    new_folder: Callable[[], Path],
    keep_versions: Sequence[int] = (),
) -> Done:
    """Do a slice of what a request asks for, durably; the handle is then at the newest version.

    Args:
        handle: The table.
        request: The request.
        begun: How far earlier slices came.
        matching: Chooses the partitions that the request's condition is about.
        told: What a commit says of why it is made.
        new_folder: Names a folder to work in.
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
        more = optimize(
            handle, request, begun=begun, matching=matching, told=told, new_folder=new_folder
        )
        done = Done(more=more)
    elif isinstance(request, Checkpoint):
        handle.checkpoint()
        done = Done()
    else:
        check_retention(request)
        done = _vacuum(handle, request, begun, keep_versions)
    if table.version() > before:
        for version in range(before + 1, table.version() + 1):
            sync_commit(handle.path, version)
        handle.rearranged()
    handle.refresh()
    return done


def analyze(table: DeltaTable) -> dict[str, Any]:
    """Tell in JSON values how a table is stored."""
    columns = table.metadata().partition_columns
    actions = pa.table(table.get_add_actions(flatten=True))
    told = [actions[name] for name in ("size_bytes", "num_records")]
    values = [actions[f"partition.{column}"] for column in columns]
    return analyse(pa.table([*told, *values], names=["size_bytes", "rows", *columns]), columns)


def _vacuum(
    handle: Handle, request: Vacuum, begun: Slices | None, keep_versions: Sequence[int]
) -> Done:
    found = _left(handle, request, keep_versions)
    if request.dry_run:
        return Done(value=files_told(handle.path, found))
    done, until = begun.done if begun else 0, time.monotonic() + SLICE_SECONDS
    total = done + len(found)
    while found:
        chunk = found[-_REMOVED_AT_ONCE:]
        remove_files(handle.path, chunk)
        del found[-_REMOVED_AT_ONCE:]
        done += len(chunk)
        if found and time.monotonic() > until:
            return Done(more=_slices(request, done=done, total=total))
    handle.unneeded = NOTHING_UNNEEDED
    remove_checksums(handle.path)
    return Done()


def _left(handle: Handle, request: Vacuum, keep_versions: Sequence[int]) -> list[str]:
    """List what a vacuum is to remove; after its first slice, what is left of that list.

    A list of many files takes longer than to remove them. Since it was made, a restore may have
    brought some of them back.
    """
    table = handle.existing()
    vacuum = (request.request_id, request.retention_hours, tuple(keep_versions))
    listed_for, listed_at, found = handle.unneeded
    if listed_for != vacuum:
        found = _unneeded(
            table, hours=request.retention_hours, force=request.force, keep_versions=keep_versions
        )
    elif listed_at != table.version():
        # By the last part, which no folder's way of writing a value changes.
        needed = {uri.rpartition("/")[2] for uri in table.file_uris()}
        found = [name for name in found if name.rpartition("/")[2] not in needed]
    handle.unneeded = NOTHING_UNNEEDED if request.dry_run else (vacuum, table.version(), found)
    return found


def remove_unneeded(table: DeltaTable, path: Location, *, hours: int, force: bool) -> None:
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


def _slices(request: Vacuum, *, done: int, total: int) -> Slices:
    return Slices(
        request_id=request.request_id,
        operation=operation_of(request),
        done=done,
        total=total,
    )
