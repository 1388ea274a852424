"""Names of prepared files, and of the partitions they are in.

A name tells backfill, part and place in the part, so that a part that is prepared again writes
the same files, and what is left of a backfill can be found.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from deltaq.tasks.errors import InvalidFrame
from deltaq.tasks.location import Location
from deltaq.tasks.s3_path import S3Path

#: How Hive, and Delta after it, names the partition of null.
_NULL = "__HIVE_DEFAULT_PARTITION__"
#: What Hive escapes in the name of a folder.
_ESCAPED = frozenset("\"#%'*/:=?\\\x7f{}[]^") | {chr(code) for code in range(32)}
#: In the name of a prepared file of a backfill that was resumed.
_RESUMED = re.compile(r"\.?part-\d+\.(\d+)-")
#: Bytes of a file name.
_LONGEST = 255


def file_name(backfill_id: str, part: int, ordinal: int, *, resumed: int = 0) -> str:
    """Name a prepared file."""
    again = f".{resumed}" if resumed else ""
    return f"part-{part:05d}{again}-{backfill_id}-{ordinal:05d}.snappy.parquet"


def resumed_of(name: str) -> int:
    """Tell from the name of a prepared file how often its backfill had been resumed."""
    found = _RESUMED.match(name)
    return int(found[1]) if found else 0


def temporary_name(name: str) -> str:
    """Name a file while it is being written: readers pass it over, and no other writer has it.

    Two may be at the same part when a claim was lost: neither may write into the other's file.
    """
    return f".{name}.{secrets.token_hex(4)}.tmp"


def left_behind(table: Location, backfill_id: str) -> Iterator[Location]:
    """Find all files of a backfill in a table's folder, finished or not."""
    finished = rf"part-\d+(\.\d+)?-{re.escape(backfill_id)}-\d+\.snappy\.parquet"
    name = re.compile(rf"{finished}|\.{finished}\.[0-9a-f]+\.tmp")
    if isinstance(table, S3Path):
        yield from (file for file in table.walk_files() if name.fullmatch(file.name))
        return
    for folder, folders, files in os.walk(table):
        folders[:] = [f for f in folders if not f.startswith("_delta_log")]
        for file in files:
            if name.fullmatch(file):
                yield Path(folder) / file


def partition_folder(values: dict[str, str | None]) -> str:
    """Name the folder of a partition, relative to the table's.

    Raises:
        InvalidFrame: A value is too long for a file name.
    """
    names = [f"{_escaped(column)}={_escaped(value)}" for column, value in values.items()]
    for name, column in zip(names, values, strict=True):
        if len(name.encode()) > _LONGEST:
            raise InvalidFrame(
                f"column {column!r}: {values[column]!r:.60} is too long for the name of a "
                "partition's folder; partition by another column"
            )
    return "/".join(names)


def partition_value(value: Any, kind: pa.DataType) -> str | None:
    """Write a value as Delta's log has it in ``partitionValues``."""
    if value is None:
        return None
    if pt.is_boolean(kind):
        return "true" if value else "false"
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return moment.isoformat(
            sep=" ", timespec="microseconds" if moment.microsecond else "seconds"
        )
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def _escaped(value: str | None) -> str:
    if value is None:
        return _NULL
    return "".join(f"%{ord(c):02X}" if c in _ESCAPED else c for c in value)
