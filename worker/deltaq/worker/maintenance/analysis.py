"""What there is to say of how a table is stored, from the list of its files."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise
from typing import Any

import pyarrow as pa

from deltaq.worker.maintenance.slicing import TARGET_BYTES

#: Bytes between which files are counted together.
_EDGES = (0, *(4**n * 1024 for n in range(1, 11)), None)
#: Partitions told of by name.
_LARGEST = 10
#: Small files in a partition, times the files needed, and times the median partition, that are
#: worth a word; and bytes of a partition below which there are too many of them.
_MANY, _RATIO, _SKEW, _SLIM = 32, 2, 10, 1024 * 1024


def analyse(files: pa.Table, partition_by: list[str]) -> dict[str, Any]:
    """Describe how a table is stored, in JSON values.

    Args:
        files: A row for each file: ``size_bytes``, ``rows`` (null if unknown), and the values of
            the partition columns.
        partition_by: These columns.
    """
    sizes: list[int] = files["size_bytes"].to_pylist()
    rows = files["rows"]
    partitions = _partitions(files, partition_by)
    told = {
        "files": len(sizes),
        "size_bytes": sum(sizes),
        "rows": None if rows.null_count else sum(rows.to_pylist()),
        "small_files": sum(size < TARGET_BYTES for size in sizes),
        "needed_files": sum(math.ceil(p["size_bytes"] / TARGET_BYTES) or 1 for p in partitions),
        "file_sizes": _histogram(sizes),
        "partitions": len(partitions),
        "largest_partitions": partitions[:_LARGEST],
        "skew": _skew(partitions),
    }
    return {**told, "suggestions": _suggestions(told, partitions)}


def _histogram(sizes: list[int]) -> list[dict[str, Any]]:
    """Count files by size; what is larger than the last edge has none."""
    found = []
    for low, high in pairwise(_EDGES):
        within = [s for s in sizes if s >= (low or 0) and (high is None or s < high)]
        if within:
            found.append({"below_bytes": high, "files": len(within), "size_bytes": sum(within)})
    return found


def _partitions(files: pa.Table, partition_by: list[str]) -> list[dict[str, Any]]:
    """List partitions, the largest first."""
    grouped = files.group_by(partition_by).aggregate(
        [("size_bytes", "count"), ("size_bytes", "sum"), ("rows", "sum")]
    )
    found = [
        {
            "values": {c: None if row[c] is None else str(row[c]) for c in partition_by},
            "files": row["size_bytes_count"],
            "size_bytes": row["size_bytes_sum"],
            "rows": row["rows_sum"],
        }
        for row in grouped.to_pylist()
        if row["size_bytes_count"]
    ]
    return sorted(found, key=lambda p: -p["size_bytes"])


def _skew(partitions: list[dict[str, Any]]) -> float | None:
    """Tell how many times the largest partition is as large as the one in the middle."""
    if len(partitions) < 2:
        return None
    middle = statistics.median(p["size_bytes"] for p in partitions)
    return round(partitions[0]["size_bytes"] / middle, 1) if middle else None


def _suggestions(told: dict[str, Any], partitions: list[dict[str, Any]]) -> list[str]:
    said = []
    most = max((p["files"] for p in partitions), default=0)
    wasted = told["files"] > _RATIO * told["needed_files"] and told["small_files"] > 1
    if wasted and most > 1:
        said.append(
            f"{told['files']} files where {told['needed_files']} would do, up to {most} in one "
            "partition: optimize it, or let its policy (compact_files)"
        )
    average = told["size_bytes"] / len(partitions) if partitions else 0
    if len(partitions) > _MANY and average < _SLIM:
        said.append(
            f"{len(partitions)} partitions of {int(average)} bytes on average: partition by "
            "something with fewer values, or not at all, and order rows along it (zorder)"
        )
    if told["skew"] and told["skew"] > _SKEW and partitions[0]["size_bytes"] > TARGET_BYTES:
        said.append(
            f"the largest partition is {told['skew']:g} times the one in the middle: what reads or "
            "rewrites it waits for it alone"
        )
    return said
