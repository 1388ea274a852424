"""Cuts parts that turn out to have many more rows than others, so that other workers take their share.

How many rows the bytes of a source are is known when some of them have been read: strongly
compressed Parquet, or lines of which most values are empty, can be hundreds of times as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow.parquet as pq
from msgspec import structs

from deltaq.tasks.location import Location, below, source_of
from deltaq.tasks.manifest import Csv, Part, Slice
from deltaq.worker.backfill.lines import Lines, is_compressed

#: Rounds of rows in a part from which it is cut: below, sharing gains less than what it costs.
_WORTH = 2.0
#: Rounds of rows in a piece, so that it still is one where rows are longer than the others.
_SHARE = 0.75
#: Bytes of text in which lines are counted: at the begin, in the middle and at the end.
_SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of a part when the rows of its first round have been read.

    Attributes:
        rows: How many.
        size_bytes: Their bytes in memory.
        slices: Slices of the part that were begun.
    """

    rows: int
    size_bytes: int
    slices: int


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What cannot, or need not, be cut any further.

    Attributes:
        piece: Where its rows are.
        source_bytes: Bytes of source.
        weight: Bytes of its rows in memory, about.
    """

    piece: Slice
    source_bytes: int
    weight: float


def cut(
    part: Part, folder: Location, csv: Csv, seen: Seen, numbers: Sequence[int]
) -> tuple[Part, ...]:
    """Cut a part into pieces of about one round; nothing if it is not worth it, or cannot be.

    Whoever cuts a part cuts it in the same way. The pieces have each row of the part once.

    Args:
        part: The part.
        folder: Where relative paths begin.
        csv: How CSV is written.
        seen: Of its first round.
        numbers: Of the pieces; there are no more than these.
    """
    if not numbers:
        return ()
    units = list(_units(part, folder, csv, seen))
    weight = sum(unit.weight for unit in units)
    if weight <= _WORTH * seen.size_bytes:
        return ()
    count = min(len(numbers), math.ceil(weight / (_SHARE * seen.size_bytes)))
    shares = [share for share in shared(units, count) if share]
    if len(shares) < 2:
        return ()
    return tuple(
        structs.replace(
            part,
            number=number,
            slices=tuple(_joined([unit.piece for unit in share])),
            size_bytes=sum(unit.source_bytes for unit in share),
        )
        for number, share in zip(numbers, shares, strict=False)
    )


def shared(units: Sequence[Unit], count: int) -> list[list[Unit]]:
    """Share units out, in order, so that the shares have about the same weight; some may be empty."""
    shares: list[list[Unit]] = [[] for _ in range(count)]
    whole = sum(unit.weight for unit in units)
    before = 0.0
    for unit in units:
        middle = before + unit.weight / 2
        shares[min(count - 1, int(middle / whole * count))].append(unit)
        before += unit.weight
    return shares


def _units(part: Part, folder: Location, csv: Csv, seen: Seen) -> Iterator[Unit]:
    for piece in part.slices:
        path = below(folder, piece.path)
        if part.format == "parquet":
            yield from _row_groups(path, piece, seen)
        elif piece.byte_range or not (
            is_compressed(path) or (part.format == "csv" and csv.multiline)
        ):
            yield from _ranges(path, piece, seen)
        else:
            # As dense as those that were read; one that did not end is taken for all there is.
            read = sum(other.file_bytes for other in part.slices[: seen.slices])
            weight = piece.file_bytes * seen.size_bytes / read
            yield Unit(piece=piece, source_bytes=piece.file_bytes, weight=weight)


def _row_groups(path: Location, piece: Slice, seen: Seen) -> Iterator[Unit]:
    about = pq.read_metadata(source_of(path))
    for group in range(*(piece.row_groups or (0, about.num_row_groups))):
        meta = about.row_group(group)
        yield Unit(
            piece=structs.replace(piece, row_groups=(group, group + 1)),
            source_bytes=sum(meta.column(c).total_compressed_size for c in range(meta.num_columns)),
            weight=meta.num_rows * seen.size_bytes / seen.rows,
        )


def _ranges(path: Location, piece: Slice, seen: Seen) -> Iterator[Unit]:
    """Cut text so finely that shares of it come out even."""
    start, stop = piece.byte_range or (0, piece.file_bytes)
    weight = _count_lines(path, start, stop) * seen.size_bytes / seen.rows
    count = max(1, min(stop - start, math.ceil(4 * weight / seen.size_bytes)))
    ends = [start + (stop - start) * n // count for n in range(count + 1)]
    for begin, end in pairwise(ends):
        yield Unit(
            piece=structs.replace(piece, byte_range=(begin, end)),
            source_bytes=end - begin,
            weight=weight / count,
        )


def _count_lines(path: Location, start: int, stop: int) -> float:
    """Count lines; of much text, by samples."""
    size = stop - start
    if size <= 3 * _SAMPLE_BYTES:
        return Lines(path, start, stop).count(b"\n")
    places = [start, start + (size - _SAMPLE_BYTES) // 2, stop - _SAMPLE_BYTES]
    found = sum(Lines(path, place, place + _SAMPLE_BYTES).count(b"\n") for place in places)
    return found * size / (3 * _SAMPLE_BYTES)


def _joined(pieces: Sequence[Slice]) -> Iterator[Slice]:
    """Make one slice of those that follow one another in a file."""
    joined = pieces[0]
    for piece in pieces[1:]:
        longer = _longer(joined, piece)
        if longer is None:
            yield joined
        joined = longer or piece
    yield joined


def _longer(one: Slice, other: Slice) -> Slice | None:
    if one.path != other.path:
        return None
    for kind in ("row_groups", "byte_range"):
        before, after = getattr(one, kind), getattr(other, kind)
        if before and after and before[1] == after[0]:
            return structs.replace(one, **{kind: (before[0], after[1])})
    return None
