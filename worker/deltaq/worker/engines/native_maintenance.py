"""Maintenance with delta-rs: verbs that change how a table is stored, and no row of it.

delta-rs lets nobody add the ledger to the commits that it makes here, so a commit without data
moves it afterwards. Whoever dies in between leaves work that is done again, which does no harm.
"""

from __future__ import annotations

from pathlib import Path

from deltalake import CommitProperties, DeltaTable

from deltaq.tasks.request import Optimize, Vacuum
from deltaq.worker.durable import sync_commit
from deltaq.worker.engines import MOST_LISTED, NotNative
from deltaq.worker.engines.handles import Handle
from deltaq.worker.engines.native_limits import maps_columns
from deltaq.worker.engines.verb_rules import check_retention, check_zorder

_ONCE = CommitProperties(max_commit_retries=0)


def maintain(handle: Handle, request: Optimize | Vacuum) -> list[str] | None:
    """Do what a request asks for, durably; the handle is then at the newest version.

    Returns:
        Of a vacuum without effect, files that it would remove.

    Raises:
        SchemaMismatch: A column to order by is not in the table, or partitions it.
        InvalidRequest: A vacuum of less than a week, without ``force``.
        CommitConflict: Somebody changed the same files meanwhile.
        NotNative: delta-rs does not compact such a table.
    """
    table, told = handle.existing(), None
    before = table.version()
    if isinstance(request, Optimize):
        _optimize(handle, request)
    else:
        check_retention(request)
        found = remove_unneeded(
            table,
            handle.path,
            hours=request.retention_hours,
            force=request.force,
            dry_run=request.dry_run,
        )
        told = sorted(found)[:MOST_LISTED] if request.dry_run else None
    for version in range(before + 1, table.version() + 1):
        sync_commit(handle.path, version)
    handle.forget()
    handle.refresh()
    return told


def _optimize(handle: Handle, request: Optimize) -> None:
    table = handle.existing()
    check_zorder(request, handle.schema, table.metadata().partition_columns)
    if maps_columns(table):
        raise NotNative("compacting a table with column mapping")
    if request.zorder:
        table.optimize.z_order(list(request.zorder), commit_properties=_ONCE)
    else:
        table.optimize.compact(commit_properties=_ONCE)


def remove_unneeded(
    table: DeltaTable, path: Path, *, hours: int, force: bool, dry_run: bool = False
) -> list[str]:
    """Remove files that no version of the last hours needs; return their paths."""
    found = table.vacuum(hours, dry_run=dry_run, enforce_retention_duration=not force, full=True)
    if not dry_run:
        _remove_checksums(path)
    return found


def _remove_checksums(path: Path) -> None:
    """Remove the checksums of files that are gone: Hadoop wrote them, delta-rs overlooks them."""
    for checksum in path.rglob(".*.crc"):
        if not checksum.with_name(checksum.name[1:].removesuffix(".crc")).exists():
            checksum.unlink(missing_ok=True)
