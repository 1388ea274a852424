"""How the files of a backfill are cut into parts. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec import structs

from deltaq.client.backfill_schemas import Shape
from deltaq.client.tabular import Format
from deltaq.tasks.errors import InvalidRequest
from deltaq.tasks.location import Location
from deltaq.tasks.manifest import Part, Slice

#: Bytes of source in a part. Many more would leave workers waiting for the last one.
PART_BYTES = 96 << 20
#: Bytes of rows, in memory, that are as much work as one byte of source: so a part of Parquet, too,
#: has no more rows than a worker holds at a time.
_MEMORY = 2
#: Little work is shared, too: it is cut into so many parts, but into none smaller than this.
_SHARES, _SMALLEST = 16, 8 << 20
#: Very much work has larger parts instead of more: each is a file and a message.
_MOST_PARTS = 20_000
#: What opening a file costs, in bytes that could be read meanwhile.
_FILE_COST = 64 << 10
#: No piece of text is smaller: workers look for line ends at both sides of it.
_LEAST_TEXT = 64 << 10
_WIRE: dict[Format, Literal["parquet", "csv", "jsonl"]] = {
    Format.PARQUET: "parquet",
    Format.CSV: "csv",
    Format.JSONL: "jsonl",
}


def plan_parts(
    shapes: Sequence[Shape],
    *,
    parts: int | None = None,
    multiline: bool = False,
    folder: Location | None = None,
) -> tuple[Part, ...]:
    """Cut files into parts of about the same size; small files share one.

    Parquet is cut between row groups, lines at any byte (workers move to the line's end).
    Compressed text, and CSV whose values go over lines, are not cut. Workers cut further what
    turns out to have many more rows than this could tell.

    Args:
        shapes: The files.
        parts: About how many parts; by default as many as their size asks for.
        multiline: Values of CSV may go over lines.
        folder: Of the backfill: what is below it is named relative to it.

    Raises:
        InvalidRequest: ``parts`` is no whole number above 0.
    """
    if parts is not None and (not isinstance(parts, int) or parts < 1):
        raise InvalidRequest(f"parts must be a whole number above 0, not {parts!r}")
    filler = _Filler(target=_target(sum(map(_cost, shapes)), parts))
    for shape in shapes:
        base = Slice(
            path=_path(shape.file.path, folder),
            file_bytes=shape.file.size_bytes,
            values=shape.values,
        )
        if shape.file.format is Format.PARQUET:
            filler.add_groups(base, shape.group_bytes, _work(shape))
        elif shape.file.compressed or (multiline and shape.file.format is Format.CSV):
            filler.add_whole(shape.file.format, base)
        else:
            filler.add_lines(shape.file.format, base)
    return tuple(filler.finish())


def _cost(shape: Shape) -> int:
    return max(shape.file.size_bytes, sum(_work(shape)), _FILE_COST)


def _work(shape: Shape) -> list[int]:
    """Tell how much work each row group is, in bytes of source."""
    sizes, memory = shape.group_bytes, shape.group_memory or [0] * len(shape.group_bytes)
    return [max(size, rows // _MEMORY) for size, rows in zip(sizes, memory, strict=True)]


def _target(cost: int, parts: int | None) -> int:
    if parts is not None:
        return -(-cost // parts)
    shared = min(PART_BYTES, max(_SMALLEST, -(-cost // _SHARES)))
    return max(shared, -(-cost // _MOST_PARTS))


def _path(path: Location, folder: Location | None) -> str:
    return str(path) if folder is None else str(path).removeprefix(f"{folder}/")


@dataclass(kw_only=True)
class _Filler:
    """Fills one part after the other. A part has files of one format."""

    target: int
    _parts: list[Part] = field(default_factory=list)
    _format: Format = Format.PARQUET
    _slices: list[Slice] = field(default_factory=list)
    _bytes: int = 0
    _cost: int = 0

    def add_whole(self, kind: Format, base: Slice) -> None:
        """Add a file that is not cut."""
        self._add(kind, base, base.file_bytes, base.file_bytes)

    def add_groups(self, base: Slice, sizes: Sequence[int], work: Sequence[int]) -> None:
        """Add a Parquet file, cut between its row groups."""
        start, size, cost = 0, 0, 0
        for stop, (group, costs) in enumerate(zip(sizes, work, strict=True), start=1):
            size += group
            cost += costs
            if self._cost + cost >= self.target or stop == len(sizes):
                whole = (start, stop) == (0, len(sizes))
                piece = base if whole else structs.replace(base, row_groups=(start, stop))
                self._add(Format.PARQUET, piece, size, cost)
                start, size, cost = stop, 0, 0

    def add_lines(self, kind: Format, base: Slice) -> None:
        """Add a text file, cut where a part is full."""
        for start, stop in self._ranges(base.file_bytes):
            whole = (start, stop) == (0, base.file_bytes)
            piece = base if whole else structs.replace(base, byte_range=(start, stop))
            self._add(kind, piece, stop - start, stop - start)

    def _ranges(self, size: int) -> Iterator[tuple[int, int]]:
        start = 0
        while start < size:
            stop = start + max(self.target - self._cost, _LEAST_TEXT)
            stop = size if size - stop < _LEAST_TEXT else stop
            yield start, stop
            start = stop

    def _add(self, kind: Format, piece: Slice, size: int, cost: int) -> None:
        if self._slices and kind is not self._format:
            self._close()
        self._format = kind
        self._slices.append(piece)
        self._bytes += size
        self._cost += max(cost, _FILE_COST)
        if self._cost >= self.target:
            self._close()

    def _close(self) -> None:
        self._parts.append(
            Part(
                number=len(self._parts),
                format=_WIRE[self._format],
                slices=tuple(self._slices),
                size_bytes=self._bytes,
            )
        )
        self._slices, self._bytes, self._cost = [], 0, 0

    def finish(self) -> list[Part]:
        """Return the parts."""
        if self._slices:
            self._close()
        return self._parts
