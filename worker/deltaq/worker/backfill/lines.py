"""Byte ranges of files of lines: where they really begin and end, and which line is bad."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deltaq.tasks.location import CODECS, Location

#: Bytes read at a time while a newline is looked for, or newlines are counted.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Lines:
    """Whole lines of a file, from one byte to another."""

    path: Location
    start: int
    stop: int

    def open(self) -> io.RawIOBase:
        """Open the lines as a file of their own. Close it."""
        return _Range(self.path, self.start, self.stop)

    def split(self) -> tuple[Lines, Lines] | None:
        """Cut the lines in two near the middle; None if there is but one."""
        middle = line_start(self.path, (self.start + self.stop) // 2 + 1)
        if middle >= self.stop:
            middle = _second_line(self.path, self.start)
        if middle >= self.stop:
            return None
        return Lines(self.path, self.start, middle), Lines(self.path, middle, self.stop)

    def count(self, byte: bytes) -> int:
        """Count how often a byte is in the lines."""
        found, left = 0, self.stop - self.start
        with self.path.open("rb") as file:
            file.seek(self.start)
            while left and (chunk := file.read(min(left, _CHUNK))):
                found += chunk.count(byte)
                left -= len(chunk)
        return found


def whole_lines(path: Location, start: int, stop: int, *, body: int = 0) -> Lines:
    """Find the lines that begin in a byte range, at ``body`` or later, where a header ends."""
    begin, end = (max(body, line_start(path, offset)) for offset in (start, stop))
    return Lines(path, begin, end)


def line_start(path: Location, offset: int) -> int:
    """Find the first byte at or past an offset at which a line begins; the size if none does."""
    if offset <= 0:
        return 0
    with path.open("rb") as file:
        place = file.seek(min(offset - 1, file.seek(0, io.SEEK_END)))
        while chunk := file.read(_CHUNK):
            found = chunk.find(b"\n")
            if found >= 0:
                return place + found + 1
            place += len(chunk)
        return place


def is_compressed(path: Location) -> bool:
    """Tell whether a file can only be read from its beginning."""
    return path.suffix in CODECS


def bad_line(lines: Lines, parse: Callable[[Lines], None]) -> int:
    """Find the line, counted from 1 in its file, for which ``parse`` raises.

    Args:
        lines: Lines that do not parse together.
        parse: Raises any Exception for lines that it cannot parse.
    """
    while halves := lines.split():
        first, second = halves
        try:
            parse(first)
        except Exception:
            lines = first
        else:
            lines = second
    return Lines(lines.path, 0, lines.start).count(b"\n") + 1


def _second_line(path: Location, start: int) -> int:
    return line_start(path, start + 1)


class _Range(io.RawIOBase):
    """A stretch of a file, readable as a file."""

    def __init__(self, path: Location, start: int, stop: int) -> None:
        self._file = path.open("rb")
        self._file.seek(start)
        self._left = stop - start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = memoryview(buffer)[: self._left]
        read: int = self._file.readinto(wanted)  # type: ignore[attr-defined]
        self._left -= read
        return int(read)

    def close(self) -> None:
        self._file.close()
        super().close()
