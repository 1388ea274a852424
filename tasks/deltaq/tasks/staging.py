"""The staging area: one Parquet file for each request, which is also its write-ahead log.

::

    requests/<table>/<request id>.parquet   accepted or about to be
    dead/<table>/<request id>.parquet       given up; the error is in its .json neighbour
    reads/<request id>/*                    results of reads, Arrow or Parquet
    backfills/<backfill id>/                see deltaq.tasks.backfill
    work/                                   what engines put down while they work

A path is never on the wire: both sides derive it from checked names. The request itself
is JSON in the file's footer, so the area can be replayed without Redis.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.tasks import location
from deltaq.tasks.errors import StagedDataMissing, StagingFull, StorageUnavailable
from deltaq.tasks.location import (
    Location,
    make_folder,
    move,
    remove_folder,
    source_of,
    sync_folder,
)
from deltaq.tasks.request import Request, decode_request
from deltaq.tasks.s3_path import S3Path

#: Key of the request in the footer's metadata.
FOOTER_KEY = b"deltaq.request"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class StagingArea:
    """Paths of the staging area and the few ways in which files in it change."""

    def __init__(self, root: Location) -> None:
        self.root = root

    def request_path(self, table: str, request_id: str) -> Location:
        """Locate the staged file of a request."""
        return self.root / "requests" / table / f"{request_id}.parquet"

    def dead_path(self, table: str, request_id: str) -> Location:
        """Locate the staged file of a request that was given up."""
        return self.root / "dead" / table / f"{request_id}.parquet"

    def read_path(self, request_id: str) -> Location:
        """Locate the folder of a read's result."""
        return self.root / "reads" / request_id

    @property
    def work(self) -> Path:
        """Locate the folder, on a disk, for what engines put down while they work."""
        if isinstance(self.root, Path):
            return self.root / "work"
        server = f"{self.root.bucket.options.endpoint} {self.root}"
        name = hashlib.blake2b(server.encode(), digest_size=6).hexdigest()
        return Path(tempfile.gettempdir()) / f"deltaq-work-{os.getuid()}-{name}"

    def new_work_path(self) -> Path:
        """Name a file or folder in :attr:`work` that is not there yet.

        Raises:
            StorageUnavailable: The storage refused.
        """
        try:
            make_folder(self.work)
        except OSError as exc:
            raise StorageUnavailable(f"{self.work}: cannot be made: {exc.strerror}") from exc
        return self.work / secrets.token_hex(8)

    def new_shared_work_path(self, suffix: str = "") -> Location:
        """Name a file or folder in the area's ``work/``, wherever that is, that is not there yet.

        Raises:
            StorageUnavailable: The storage refused.
        """
        if isinstance(self.root, Path):
            return self.new_work_path().with_suffix(suffix)
        return self.root / "work" / f"{secrets.token_hex(8)}{suffix}"

    def old_work(self) -> Iterator[Location]:
        """List what is in :attr:`work`, and in the area's ``work/`` if that is in S3."""
        yield from self.work.glob("*")
        if isinstance(self.root, S3Path):
            yield from (self.root / "work").walk_files()

    def require_room(self, min_free_bytes: int) -> None:
        """Make sure that a file may be staged and leave this much room on its disk; S3 has no end.

        Raises:
            StagingFull: There is less.
            StorageUnavailable: The disk does not tell.
        """
        if isinstance(self.root, S3Path):
            return
        folder = next(f for f in (self.root, *self.root.parents) if f.exists())
        try:
            disk = os.statvfs(folder)
        except OSError as exc:
            raise StorageUnavailable(f"{folder}: cannot be read: {exc.strerror}") from exc
        free_bytes = disk.f_bavail * disk.f_frsize
        if free_bytes < min_free_bytes:
            raise StagingFull(
                f"{self.root}: {free_bytes} bytes are free on its disk (limit: "
                f"staging_min_free_bytes={min_free_bytes}); submit again when workers have caught "
                "up, or make room",
                details={"free_bytes": free_bytes, "min_free_bytes": min_free_bytes},
            )

    @contextlib.contextmanager
    def create(self, path: Location) -> Iterator[BinaryIO]:
        """Write a file that appears whole or not at all, and is synced when this ends.

        Raises:
            FileExistsError: The file is there already; it was left as it was.
            StagingFull: The disk has no more room; nothing was left behind.
            StorageUnavailable: The storage refused; nothing was left behind.
        """
        try:
            with location.create(path) as file:
                yield file
        except FileExistsError:
            raise
        except OSError as exc:
            kind = StagingFull if exc.errno in _NO_ROOM else StorageUnavailable
            raise kind(f"{path}: cannot be staged: {exc.strerror or exc}") from exc

    def results(self) -> Iterator[Location]:
        """List the results of reads: folders, or in S3 what is in them."""
        reads = self.root / "reads"
        return reads.walk_files() if isinstance(reads, S3Path) else reads.glob("*")

    def unfinished(self) -> Iterator[Location]:
        """List the files that :meth:`create` writes now, or did when its process died."""
        for folder in ("requests", "dead", "reads"):
            yield from self.root.glob(f"{folder}/*/.*.*")

    def bury(self, path: Location, grave: Location, reason: bytes) -> None:
        """Move a staged file to the dead letters, with the reason (JSON) beside it.

        Raises:
            StorageUnavailable: The storage refused; doing it again is safe.
        """
        try:
            make_folder(grave.parent)
            with contextlib.suppress(FileExistsError), self.create(grave.with_suffix(".json")) as f:
                f.write(reason)
            with contextlib.suppress(FileNotFoundError):
                move(path, grave)
            sync_folder(grave.parent)
        except OSError as exc:
            raise StorageUnavailable(f"{path}: cannot be moved: {exc.strerror or exc}") from exc

    def exhume(self, grave: Location, path: Location) -> bytes:
        """Move a dead letter back to the staged files and return the reason, ``b""`` for none.

        The file counts as new, so that the sweeper leaves it alone until Redis knows of it.

        Raises:
            StagedDataMissing: It is gone.
            StorageUnavailable: The storage refused; doing it again is safe.
        """
        word = grave.with_suffix(".json")
        try:
            reason = word.read_bytes() if word.is_file() else b""
            make_folder(path.parent)
            if isinstance(grave, Path):
                os.utime(grave)
            move(grave, path)
            sync_folder(path.parent)
            # Before anybody can fail it again, with another reason.
            word.unlink(missing_ok=True)
            sync_folder(grave.parent)
        except FileNotFoundError as exc:
            raise StagedDataMissing(f"{grave}: the dead letter is gone") from exc
        except OSError as exc:
            raise StorageUnavailable(f"{grave}: cannot be moved: {exc.strerror or exc}") from exc
        return reason

    @staticmethod
    def remove(path: Location) -> None:
        """Remove a staged file; nothing happens if it is not there.

        Raises:
            StorageUnavailable: The storage refused.
        """
        with _removing(path):
            path.unlink(missing_ok=True)

    @staticmethod
    def remove_all(paths: Sequence[Location]) -> None:
        """Remove staged files, in S3 with one request for many; as :meth:`remove`.

        Raises:
            StorageUnavailable: The storage refused; some of them may be left.
        """
        first = paths[0]
        with _removing(first):
            if isinstance(first, S3Path):
                first.unlink_all([path.key for path in paths if isinstance(path, S3Path)])
            else:
                for path in paths:
                    path.unlink(missing_ok=True)

    @staticmethod
    def remove_folder(path: Location) -> None:
        """Remove a folder or what is in its place; nothing happens if it is not there.

        Raises:
            StorageUnavailable: The storage refused.
        """
        with _removing(path):
            remove_folder(path)


@contextlib.contextmanager
def _removing(path: Location) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        return
    except OSError as exc:
        raise StorageUnavailable(f"{path}: cannot be removed: {exc.strerror or exc}") from exc


@contextlib.contextmanager
def open_staged(path: Location) -> Iterator[pq.ParquetFile]:
    """Open a staged file, whose pages are checked against their checksums as they are read.

    Raises:
        StagedDataMissing: It is not there, is damaged, or holds another request; also for what
            is found while it is read.
        StorageUnavailable: The storage cannot be read now.
    """
    if path.is_symlink():
        raise StagedDataMissing(f"{path}: a link is no staged file")
    try:
        with pq.ParquetFile(source_of(path), page_checksum_verification=True) as file:
            _check_owner(path, _footer(path, file))
            yield file
    except FileNotFoundError as exc:
        raise StagedDataMissing(
            f"{path}: the staged file is not there: it was removed, or the client that staged it "
            "has another lake or staging area"
        ) from exc
    except (pa.ArrowInvalid, UnicodeDecodeError) as exc:
        raise StagedDataMissing(f"{path}: not a whole Parquet file: {exc}") from exc
    except OSError as exc:
        if exc.errno is None:  # Arrow's own, of the content
            raise StagedDataMissing(f"{path}: the staged file is damaged: {exc}") from exc
        raise StorageUnavailable(f"{path}: cannot be read: {exc}") from exc


class _Owner(msgspec.Struct):
    request_id: str
    table: str


def _check_owner(path: Location, wire: bytes) -> None:
    """Check that a file is that of the request for which it is named."""
    try:
        owner = msgspec.json.decode(wire, type=_Owner)
    except msgspec.MsgspecError as exc:
        raise StagedDataMissing(f"{path}: no request in the file's footer: {exc}") from exc
    if (owner.request_id, owner.table) != (path.stem, path.parent.name):
        raise StagedDataMissing(
            f"{path}: the file is that of request {owner.request_id[:150]!r} on table "
            f"{owner.table[:150]!r}"
        )


def _footer(path: Location, file: pq.ParquetFile) -> bytes:
    wire: bytes | None = (file.metadata.metadata or {}).get(FOOTER_KEY)
    if wire is None:
        raise StagedDataMissing(f"{path}: no request in the file's footer")
    return wire


def staged_request(path: Location) -> Request:
    """Read the request in the footer of a staged file.

    Raises:
        StagedDataMissing: The file is gone, no Parquet, or has no request in it.
        InvalidRequest: The request in it cannot be understood.
    """
    with open_staged(path) as file:
        return request_of(path, file)


def request_of(path: Location, file: pq.ParquetFile) -> Request:
    """Read the request in the footer of a staged file that is open.

    Raises:
        StagedDataMissing: It has no request in it.
        InvalidRequest: The request in it cannot be understood.
    """
    return decode_request(_footer(path, file))
