"""Drops tables: all or nothing for readers, once for each request, whoever dies on the way.

A dropped table's folder is renamed to its grave, ``.dropped/<table>/<request id>`` in the lake.
That moment is the drop, as a commit's entry in the log is a write. The grave says that the request
was applied, when its outcome is lost, and keeps a late worker's rename from taking the next table
of that name: a folder that is not empty is never replaced. So only what is in it is removed at
once, and a word is left there as long as outcomes are kept. In S3, which knows no renames of
folders, see ``deltaq.worker.s3_drops``.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.location import Location, remove_folder, sync_folder
from deltaq.tasks.request import Drop
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.staging import StagingArea, open_staged
from deltaq.worker import s3_drops
from deltaq.worker.lake import Lake

logger = logging.getLogger(__name__)

#: Keeps the grave from being empty.
_WORD = "dropped"


class Drops:
    """Drops the tables of a lake. Every method may run in many threads at once.

    Args:
        lake: Where the tables are.
        staging: Where the staged files are.
        keep: Seconds for which a dropped table's request is remembered.
    """

    def __init__(self, lake: Lake, staging: StagingArea, *, keep: float) -> None:
        self._lake = lake
        self._staging = staging
        self._keep = keep

    def drop(self, request: Drop) -> None:
        """Take a table out of the lake, unless this request did so before; durable on return.

        Raises:
            TableNotFound: There is no such table.
            StagedDataMissing: The request was settled before, and Redis forgot it: the table of
                that name is another one.
            StorageUnavailable: The lake cannot be written.
        """
        grave = self._grave(request)
        if s3_drops.is_dropped(grave) if isinstance(grave, S3Path) else grave.exists():
            return
        with open_staged(self._staging.request_path(request.table, request.request_id)):
            pass  # it is there, so nobody has acknowledged the request
        if not self._lake.exists(request.table):
            raise self._lake.missing(request.table)
        try:
            self._take_away(self._lake.path(request.table), grave)
        except OSError as exc:
            raise _unwritable(grave, exc) from exc

    def _take_away(self, table: Location, grave: Location) -> None:
        if isinstance(table, S3Path):
            assert isinstance(grave, S3Path)
            s3_drops.take_away(table, grave)
            return
        assert isinstance(grave, Path)
        try:
            grave.parent.mkdir(parents=True, exist_ok=True)
            table.rename(grave)
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # else another worker was first
                raise
        for folder in (grave.parent, grave.parent.parent, table.parent):
            sync_folder(folder)

    def bury(self, request: Drop) -> None:
        """Remove the files of a dropped table, and what is left of drops long ago.

        Raises:
            StorageUnavailable: The lake cannot be written; the next drop tries again.
        """
        try:
            self._empty(self._grave(request))
            for grave in self._graves():
                word = grave / _WORD
                if word.is_file() and word.stat().st_mtime < time.time() - self._keep:
                    remove_folder(grave)
                elif not self._staging.request_path(grave.parent.name, grave.name).is_file():
                    self._empty(grave)  # acknowledged, by a worker that died before this
        except OSError as exc:
            raise _unwritable(self._lake.root / ".dropped", exc) from exc

    def _graves(self) -> Iterable[Location]:
        dropped = self._lake.root / ".dropped"
        if isinstance(dropped, S3Path):
            return {word.parent for word in dropped.glob(f"*/*/{_WORD}")}
        return dropped.glob("*/*")

    def _grave(self, request: Drop) -> Location:
        return self._lake.root / ".dropped" / request.table / request.request_id

    @staticmethod
    def _empty(grave: Location) -> None:
        if isinstance(grave, S3Path):
            s3_drops.remove_files(grave)
            return
        word = grave / _WORD
        word.touch(exist_ok=True)
        # The log last: what a crash leaves is then still known for a table.
        for entry in sorted(grave.iterdir(), key=lambda e: (e.name == "_delta_log", e.name)):
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != word:
                entry.unlink()


def _unwritable(path: Location, exc: OSError) -> StorageUnavailable:
    return StorageUnavailable(f"{path}: cannot be written: {exc.strerror or exc}")
