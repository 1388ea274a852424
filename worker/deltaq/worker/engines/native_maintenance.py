"""Maintenance with delta-rs: verbs that change how a table is stored.

They move no ledger: doing one twice does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deltalake import CommitProperties, DeltaTable

from deltaq.tasks.errors import InvalidRequest, SchemaMismatch
from deltaq.tasks.suggest import did_you_mean

#: Hours; files of the last week may be needed by readers and time travel (Delta's default).
SAFE_RETENTION_HOURS = 168
_ONCE = CommitProperties(max_commit_retries=0)


def optimize(table: DeltaTable, *, zorder: Sequence[str] = ()) -> dict[str, Any]:
    """Compact small files, or order rows along columns; return delta-rs's metrics.

    Raises:
        SchemaMismatch: A column is not in the table.
        CommitConflict: Somebody changed the same files meanwhile.
    """
    names = [field.name for field in table.schema().fields]
    for column in zorder:
        if column not in names:
            raise SchemaMismatch(
                f"zorder names {column!r}, which is not in the table{did_you_mean(column, names)}",
                details={"column": column},
            )
    if zorder:
        return table.optimize.z_order(list(zorder), commit_properties=_ONCE)
    return table.optimize.compact(commit_properties=_ONCE)


def vacuum(
    table: DeltaTable, *, retention_hours: int, force: bool = False, dry_run: bool = False
) -> list[str]:
    """Remove files that no version of the last hours needs; return their paths.

    Raises:
        InvalidRequest: Less than a week, without ``force``.
    """
    if retention_hours < SAFE_RETENTION_HOURS and not force:
        raise InvalidRequest(
            f"retention_hours={retention_hours} may remove what a reader or a commit still needs; "
            f"use {SAFE_RETENTION_HOURS} or more, or force it when nobody else uses the table"
        )
    return table.vacuum(
        retention_hours, dry_run=dry_run, enforce_retention_duration=not force, full=True
    )


def remove_checksums(path: Path) -> None:
    """Remove the checksums of files that are gone: Hadoop wrote them, delta-rs overlooks them."""
    for checksum in path.rglob(".*.crc"):
        if not checksum.with_name(checksum.name[1:].removesuffix(".crc")).exists():
            checksum.unlink(missing_ok=True)
