"""What a backfill's client brings itself: frames as Parquet, files as they are."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.client.backfill_sources import SourceFile
from deltaq.client.frames import Frame, to_rows
from deltaq.client.tabular import Format
from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.staging import StagingArea

#: Bytes in memory of a row group. So much of a frame that is a reader is held at once.
_GROUP_BYTES = 64 << 20
#: Row groups of a file; parts are cut between them, too.
_FILE_GROUPS = 16
_COPY_BYTES = 4 << 20


class Uploads:
    """Writes into a folder of the staging area; each file is durable when it is there.

    Args:
        area: The staging area.
        folder: Where to; nobody else writes there.
        min_free_bytes: Room to leave on the disk.
    """

    def __init__(self, area: StagingArea, folder: Location, *, min_free_bytes: int) -> None:
        self.folder = folder
        self._area = area
        self._min_free_bytes = min_free_bytes
        self._count = 0

    def write(self, frames: Iterable[Frame]) -> Iterator[SourceFile]:
        """Write the rows of frames, in order. Those with the same columns share files.

        Raises:
            InvalidFrame: One has columns or values that no Delta table can hold.
            StagingFull: The disk has no room.
            StorageUnavailable: The staging area cannot be written.
        """
        for _, groups in groupby(_row_groups(frames), key=lambda found: found[0]):
            path = self._next("frames.parquet")
            self._write(path, (group for _, group in groups))
            yield SourceFile(path=path, format=Format.PARQUET, size_bytes=path.stat().st_size)

    def _write(self, path: Location, groups: Iterator[pa.Table]) -> None:
        first = next(groups)
        with (
            self._area.create(path) as file,
            pq.ParquetWriter(file, first.schema, write_page_checksum=True) as writer,
        ):
            for group in chain([first], groups):
                self._area.require_room(self._min_free_bytes)
                writer.write_table(group, row_group_size=group.num_rows)

    def copy(self, file: SourceFile) -> SourceFile:
        """Copy a file that workers do not see.

        Raises:
            StagingFull: The disk has no room.
            StorageUnavailable: The file cannot be read, or the staging area not be written.
        """
        path = self._next(file.path.name)
        try:
            source = file.path.open("rb")
        except OSError as exc:
            raise StorageUnavailable(f"{file.path}: cannot be read: {exc.strerror}") from exc
        with source, self._area.create(path) as target:
            shutil.copyfileobj(source, target, _COPY_BYTES)
        return replace(file, path=path, size_bytes=path.stat().st_size)

    def remove(self) -> None:
        """Remove all of it, and the folders around it that nobody else uses."""
        self._area.remove_folder(self.folder)
        if isinstance(self.folder, Path):
            for folder in self.folder.parents[:2]:
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def _next(self, name: str) -> Location:
        self._area.require_room(self._min_free_bytes)
        self._count += 1
        return self.folder / f"{self._count}-{name}"


def _row_groups(frames: Iterable[Frame]) -> Iterator[tuple[int, pa.Table]]:
    """Gather the batches of frames into row groups, each with the number of its file."""
    file, written, size = 0, 0, 0
    schema: pa.Schema | None = None
    gathered: list[pa.RecordBatch] = []
    for frame in frames:
        rows = to_rows(frame)
        if rows.schema != schema:
            if gathered:
                yield file, pa.Table.from_batches(gathered)
            gathered, size, written = [], 0, 0
            file, schema = file + 1, rows.schema
        for batch in rows.batches:
            if not batch.num_rows:
                continue
            if written == _FILE_GROUPS:
                file, written = file + 1, 0
            gathered.append(batch)
            size += batch.nbytes
            if size >= _GROUP_BYTES:
                yield file, pa.Table.from_batches(gathered)
                gathered, size, written = [], 0, written + 1
    if gathered:
        yield file, pa.Table.from_batches(gathered)
