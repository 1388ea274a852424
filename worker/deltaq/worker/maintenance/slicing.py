"""What a compaction has to do, partition by partition, and how much of it goes into one commit.

Small partitions are gathered to packs, the small files of a large one are put together bin by bin.

Values in, values out: the engines find the files, and rewrite them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

#: Bytes; what delta-rs takes for a small file unless told otherwise.
TARGET_BYTES = 100 * 1024 * 1024
#: Files and bytes that are rewritten in one commit.
_PACK_FILES, _PACK_BYTES = 2000, 64 * 1024 * 1024
#: Bytes that are ordered in one commit: it takes several times as long as putting them together.
_ORDER_BYTES = 24 * 1024 * 1024
#: Files of a bin; its bytes are those of the file that it becomes.
_BIN_FILES = 4000


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The data files of a partition; an unpartitioned table is one.

    Attributes:
        values: Of the partition columns, in their order, as Python has them.
        files: How many there are.
        size_bytes: Of all of them.
        small_files: Those below the target size.
        small_bytes: Of these.
    """

    values: tuple[Any, ...]
    files: int
    size_bytes: int
    small_files: int
    small_bytes: int

    @property
    def key(self) -> str:
        """Text that tells it from others of the table, and by which they are ordered."""
        return msgspec.json.encode([_plain(value) for value in self.values]).decode()


def to_rewrite(
    partitions: Iterable[Partition], *, ordered: bool, min_files: int
) -> list[Partition]:
    """Choose the partitions of which files are to be rewritten, in the order in which they are.

    Args:
        partitions: All that are asked for.
        ordered: Rows are ordered as well, so that a single file is rewritten, too.
        min_files: Small files below which a partition is left alone.
    """
    least = max(2, min_files)
    chosen = (p for p in partitions if (p.files if ordered else p.small_files >= least))
    return sorted(chosen, key=lambda p: p.key)


def is_large(partition: Partition) -> bool:
    """Tell whether the small files of a partition are more than are put together in one commit."""
    return partition.small_files > _PACK_FILES or partition.small_bytes > _PACK_BYTES


def bins(sizes: Sequence[int], most_bytes: int) -> Iterator[range]:
    """Find files next to each other, two at least, that become one file in one commit.

    Args:
        sizes: Of small files, in their order.
        most_bytes: Of the one that they become.
    """
    begin = size_bytes = 0
    for place, size in enumerate([*sizes, most_bytes + 1]):
        if size_bytes + size > most_bytes or place - begin == _BIN_FILES:
            if place - begin > 1:
                yield range(begin, place)
            begin, size_bytes = place, 0
        size_bytes += size


def count_bins(sizes: Sequence[int], most_bytes: int) -> int:
    """Count the bins until no two files go together; what a bin becomes is put in one again."""
    left, count = list(sizes), 0
    while found := list(bins(left, most_bytes)):
        count += len(found)
        taken = {place for bin_ in found for place in bin_}
        made = [sum(left[bin_.start : bin_.stop]) for bin_ in found]
        left = [size for place, size in enumerate(left) if place not in taken] + made
    return count


def packs(partitions: Sequence[Partition], *, ordered: bool) -> Iterator[list[Partition]]:
    """Gather partitions, in order, that are rewritten in one commit."""
    most_bytes = _ORDER_BYTES if ordered else _PACK_BYTES
    pack: list[Partition] = []
    files = size_bytes = 0
    for partition in partitions:
        more_files = partition.files if ordered else partition.small_files
        more_bytes = partition.size_bytes if ordered else partition.small_bytes
        if pack and (files + more_files > _PACK_FILES or size_bytes + more_bytes > most_bytes):
            yield pack
            pack, files, size_bytes = [], 0, 0
        pack.append(partition)
        files += more_files
        size_bytes += more_bytes
    if pack:
        yield pack


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | bool | None) else str(value)
