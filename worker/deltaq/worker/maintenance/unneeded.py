"""Files in the folder of a table that a vacuum may remove: what there is to tell, and the deed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Any

from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.s3_path import S3Path

#: Files that a vacuum without effect lists.
_MOST_LISTED = 1000


def files_told(table: Location, names: Iterable[str]) -> dict[str, Any]:
    """Tell of files which a vacuum would remove: how many, their bytes, and the first by name.

    Args:
        table: Folder of the table.
        names: Their paths in it.
    """
    ordered = sorted(names)
    sizes = (_size(table / name) for name in ordered)
    return {"files": len(ordered), "size_bytes": sum(sizes), "listed": ordered[:_MOST_LISTED]}


def remove_files(table: Location, names: Iterable[str]) -> None:
    """Remove files of a table; one that is gone already is no matter.

    Raises:
        StorageUnavailable: The storage refused; some are removed.
    """
    try:
        if isinstance(table, S3Path):
            table.remove_below(names)
            return
        folder = str(table)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{folder}/{name}")  # noqa: PTH108 - paths take longer than the deed
    except OSError as exc:
        raise StorageUnavailable(f"{exc.filename}: cannot be removed: {exc.strerror}") from exc


def remove_checksums(table: Location) -> None:
    """Remove the checksums of files that are gone: Hadoop wrote them, delta-rs overlooks them."""
    if isinstance(table, S3Path):
        return
    for checksum in table.rglob(".*.crc"):
        if not checksum.with_name(checksum.name[1:].removesuffix(".crc")).exists():
            checksum.unlink(missing_ok=True)


def _size(file: Location) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
