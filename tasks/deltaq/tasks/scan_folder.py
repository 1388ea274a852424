"""The folder through which the parts of a scan go from a worker to its client.

Parts are files named by number, which the client removes as it reads them. On a disk the folder's
time is the worker's sign of life, in S3 that of an object in it. A client that gives up puts a
file in the folder's place.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from deltaq.tasks.location import Location, remove_folder, sync_folder
from deltaq.tasks.s3_path import S3Path

#: Suffixes of parts: Arrow files of the native engine, Parquet of Spark.
_SUFFIXES = (".arrow", ".parquet")
_LIFE = "life"


class ScanFolder:
    """A scan's folder. Every method may raise ``OSError``.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Location) -> None:
        self.path = path

    @property
    def look_seconds(self) -> float:
        """How often to look at it: a look in S3 is a request."""
        return 0.1 if isinstance(self.path, S3Path) else 0.01

    def is_given_up(self) -> bool:
        """Tell whether its client gave up before a worker began."""
        return self.path.is_file()

    def claim(self) -> bool:
        """Make it, unless it is there; tells which."""
        if isinstance(self.path, S3Path):
            return _claim(self.path / _LIFE)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir()
            sync_folder(self.path.parent)
        except FileExistsError:
            return False
        return True

    def silent_seconds(self) -> float:
        """Tell how long ago its worker gave a sign of life."""
        sign = self.path / _LIFE if isinstance(self.path, S3Path) else self.path
        return time.time() - sign.stat().st_mtime

    def show_life(self) -> None:
        """Give a sign of life, if it is still wanted."""
        if isinstance(self.path, Path):
            os.utime(self.path)
        elif self.is_wanted():
            (self.path / _LIFE).touch()

    def is_wanted(self) -> bool:
        """Tell whether its client has not given up."""
        if isinstance(self.path, S3Path):
            return (self.path / _LIFE).is_file()
        return self.path.is_dir()

    def unread(self) -> int:
        """Count the parts that its client has not taken."""
        return sum(file.name.startswith("part-") for file in self.path.iterdir())

    def put(self, file: Path, number: int, suffix: str) -> None:
        """Make a file on the worker's disk the next part."""
        part = self.path / f"part-{number:06d}{suffix}"
        if isinstance(part, S3Path):
            part.upload(file)
            file.unlink()
        else:
            file.rename(part)

    @contextlib.contextmanager
    def draft(self, work: Path) -> Iterator[Path]:
        """Lend a name for a part that is being written, on the worker's disk.

        Args:
            work: Where to, if the folder is not on a disk.
        """
        file = self.path / ".part" if isinstance(self.path, Path) else work
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)

    def part(self, number: int) -> Location | None:
        """Find a part; None if it is not there."""
        for suffix in _SUFFIXES:
            file = self.path / f"part-{number:06d}{suffix}"
            if file.is_file():
                return file
        return None

    def give_up(self, *, is_done: bool) -> None:
        """Remove what is left, and leave word if the worker is still at it."""
        for _ in range(3):  # it may put down a part meanwhile
            with contextlib.suppress(OSError):
                remove_folder(self.path)
                break
        if is_done:
            return
        with contextlib.suppress(OSError):
            if isinstance(self.path, Path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()


def _claim(sign: S3Path) -> bool:
    mark = secrets.token_bytes(8)
    try:
        with sign.create() as written:
            written.write(mark)
    except FileExistsError:  # perhaps ours, and the answer was lost
        return sign.read_bytes() == mark
    return True
