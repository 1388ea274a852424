"""Paths in S3 with the methods of ``pathlib.Path`` that deltaq uses, and their errors.

A folder is what begins the name of an object: there is nothing to make or to remove. Objects
appear whole, and :meth:`S3Path.create` never replaces one.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import pyarrow as pa

from deltaq.tasks.s3 import Bucket
from deltaq.tasks.s3_files import ONE_PIECE, new_file, raw_file
from deltaq.tasks.s3_name import S3Name

if TYPE_CHECKING:
    from obstore import ObjectMeta, ReadableFile

#: Objects that one process reads ahead at the same time.
_FETCHERS = 16
#: Objects kept that were read ahead for whoever comes.
_MOST_AHEAD = 32
#: Names in one answer of a listing.
_PAGE = 1000


@dataclass(frozen=True)
class S3Stat:
    """What a listing tells of an object."""

    st_size: int
    st_mtime: float
    #: Changes whenever the object is written.
    etag: str | None


class S3Path(S3Name):
    """The name of an object in S3, or of a folder of objects, and what is there.

    Every method that asks the server may raise ``OSError``: ``FileNotFoundError``,
    ``FileExistsError``, ``PermissionError`` and, when the server cannot be reached or refuses for
    another reason, ``OSError`` with what it said as its ``strerror``.

    Args:
        bucket: Where it is, and how to get there.
        key: The name within the bucket, without slashes at its ends; "" is the bucket itself.
    """

    def __init__(self, bucket: Bucket, key: str, found: S3Stat | None = None) -> None:
        super().__init__(bucket, key)
        self._found = found
        self._content: Future[pa.Buffer | int] | None = None

    def exists(self) -> bool:
        """Tell whether there is such an object, or a folder with something in it."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Tell whether there is such an object."""
        try:
            self._head()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Tell whether there is an object whose name begins with this folder."""
        return next(self._list(f"{self.key}/" if self.key else "", page=1), None) is not None

    @staticmethod
    def is_symlink() -> bool:
        """Tell that there are no links in S3."""
        return False

    def iterdir(self) -> Iterator[S3Path]:
        """List objects and folders in this folder; none if there is no such folder."""
        import obstore

        with self.errors():
            found = obstore.list_with_delimiter(self.bucket.store, self.key or None)
        for prefix in found["common_prefixes"]:
            yield self._at(prefix.rstrip("/"))
        for meta in found["objects"]:
            yield S3Path(self.bucket, meta["path"], _stat(meta))

    def followers(self) -> Iterator[S3Path]:
        """List the objects in its folder that come after it, by name."""
        return self._list(f"{self.parent.key}/", after=self.key)

    def glob(self, pattern: str) -> Iterator[S3Path]:
        """List the objects below this folder whose parts match those of a pattern.

        Folders match nothing: a listing of S3 names objects only.
        """
        parts = pattern.split("/")
        plain = parts[: _first_wild(parts)]
        start = "/".join([self.key, *plain] if self.key else plain)
        depth = len(self._pure.parts)
        for path in self._list(f"{start}/" if start else ""):
            below = path._pure.parts[depth:]
            if len(below) == len(parts) and all(map(fnmatch.fnmatchcase, below, parts)):
                yield path

    def walk_files(self) -> Iterator[S3Path]:
        """List all objects below this folder, in no order."""
        return self._list(f"{self.key}/" if self.key else "")

    def stat(self) -> S3Stat:
        """Tell size and time, from the listing that named it, if one did."""
        return self._found or self._head()

    def read_bytes(self) -> bytes:
        """Read the whole object."""
        import obstore

        with self.errors():
            return bytes(obstore.get(self.bucket.store, self.key).bytes())

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Open the object for reading: of a large one no more is read than is asked for."""
        content = self._get()
        if isinstance(content, pa.Buffer):
            return io.BytesIO(content)
        return io.BufferedReader(raw_file(self, self._reader(content)), ONE_PIECE)

    def read_text(self) -> str:
        """Read the whole object as UTF-8."""
        return self.read_bytes().decode()

    def fetch(self) -> None:
        """Begin to read the object, which does not change: it will be opened soon."""
        if self._content is None:
            self._content = _ahead.pop(str(self), None) or _fetchers().submit(self._get)

    def fetch_ahead(self) -> None:
        """Do so for another path of the same name; only a few of them are kept."""
        if len(_ahead) < _MOST_AHEAD:
            _ahead[str(self)] = _fetchers().submit(self._get)
        else:
            _ahead.clear()  # those that nobody came for

    def open_input(self) -> pa.NativeFile:
        """Open the object for reading: a small one is read once, of a large one what is asked.

        What was read is kept as long as this path is.
        """
        self.fetch()
        assert self._content is not None
        content = self._content.result()
        if isinstance(content, pa.Buffer):
            return pa.BufferReader(content)
        return pa.PythonFile(raw_file(self, self._reader(content)), mode="r")

    def _reader(self, size: int) -> ReadableFile:
        import obstore

        with self.errors():
            return obstore.open_reader(
                self.bucket.store, self.key, size=size, buffer_size=ONE_PIECE
            )

    def _get(self) -> pa.Buffer | int:
        """Read the object if it is small, else return its size."""
        import obstore

        with self.errors():
            found = obstore.get(self.bucket.store, self.key)
            size: int = found.meta["size"]
            return pa.py_buffer(found.bytes()) if size <= ONE_PIECE else size

    def write_bytes(self, content: bytes) -> None:
        """Write the object, in place of what is there."""
        import obstore

        with self.errors():
            obstore.put(self.bucket.store, self.key, content)

    def write_text(self, text: str) -> None:
        """Write the object as UTF-8, in place of what is there."""
        self.write_bytes(text.encode())

    def upload(self, file: Path) -> None:
        """Write the object as a file on a disk is, in place of what is there."""
        import obstore

        with self.errors():
            obstore.put(self.bucket.store, self.key, file)

    def create(self) -> contextlib.AbstractContextManager[BinaryIO]:
        """Write an object that appears whole or not at all, when the block ends.

        Raises:
            FileExistsError: It is there already; it was left as it was.
        """
        return new_file(self)

    def touch(self) -> None:
        """Write an empty object, so that its time is now."""
        self.write_bytes(b"")

    def rename(self, target: S3Path) -> None:
        """Copy the object to another name, then remove it: cut short, both are there."""
        import obstore

        with self.errors():
            obstore.copy(self.bucket.store, self.key, target.key)
            obstore.delete(self.bucket.store, self.key)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object; whether it was there is not told unless asked for.

        Args:
            missing_ok: False asks the server first.
        """
        import obstore

        if not missing_ok:
            self._head()
        with self.errors(), contextlib.suppress(FileNotFoundError):
            obstore.delete(self.bucket.store, self.key)

    def unlink_all(self, keys: Sequence[str]) -> None:
        """Remove objects of its bucket, up to a thousand with one request, there or not."""
        import obstore

        with self.errors(), contextlib.suppress(FileNotFoundError):
            obstore.delete(self.bucket.store, keys)

    def remove_unchanged(self, etag: str | None) -> None:
        """Remove the object if it is the one that has this tag; it is no matter if it is not."""
        bucket = self.bucket
        # A condition that does not hold is told as that of a create: something else is there.
        with contextlib.suppress(FileExistsError, FileNotFoundError), self.errors():
            bucket.uploads.delete_object(Bucket=bucket.name, Key=self.key, IfMatch=etag)

    def remove_tree(self) -> None:
        """Remove all objects below this folder, and the empty ones by which Hadoop marks folders.

        The names of those end with a slash, which obstore neither tells nor takes.
        """
        client, bucket = self.bucket.uploads, self.bucket.name
        marks: list[str] = []
        with self.errors():
            listing = client.get_paginator("list_objects_v2")
            for page in listing.paginate(Bucket=bucket, Prefix=f"{self.key}/"):
                keys = [found["Key"] for found in page.get("Contents", ())]
                marks += [key for key in keys if key.endswith("/")]
                if plain := [key for key in keys if not key.endswith("/")]:
                    self.unlink_all(plain)
            for mark in reversed(marks):  # a server on a disk removes no folder that is not empty
                client.delete_object(Bucket=bucket, Key=mark)

    def remove_below(self, names: Iterable[str]) -> None:
        """Remove objects in this folder, named as seen from it; it is no matter if one is gone."""
        left = iter(names)
        while page := [f"{self.key}/{name}" for name in islice(left, _PAGE)]:
            self.unlink_all(page)

    def _head(self) -> S3Stat:
        import obstore

        with self.errors():
            return _stat(obstore.head(self.bucket.store, self.key))

    def _list(
        self, prefix: str, *, page: int = _PAGE, after: str | None = None
    ) -> Iterator[S3Path]:
        import obstore

        with self.errors():
            for metas in obstore.list(
                self.bucket.store, prefix or None, offset=after, chunk_size=page
            ):
                for meta in metas:
                    yield S3Path(self.bucket, meta["path"], _stat(meta))

    def errors(self) -> contextlib.AbstractContextManager[None]:
        """Turn what obstore and boto3 raise into ``OSError``, as this class promises."""
        return self.bucket.errors(str(self))


#: What :meth:`S3Path.fetch_ahead` has begun to read, by name.
_ahead: dict[str, Future[pa.Buffer | int]] = {}


@cache
def _fetchers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_FETCHERS, "deltaq-fetch")


def _stat(meta: ObjectMeta) -> S3Stat:
    return S3Stat(
        st_size=meta["size"], st_mtime=meta["last_modified"].timestamp(), etag=meta["e_tag"]
    )


def _first_wild(parts: list[str]) -> int:
    return next((n for n, part in enumerate(parts) if "*" in part), len(parts) - 1)
