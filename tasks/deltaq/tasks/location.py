"""Where files are: on a disk or in S3. What is not the same for both is here."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import pyarrow as pa

from deltaq.tasks.s3 import Bucket, S3Options
from deltaq.tasks.s3_path import S3Path

#: A file or folder.
Location: TypeAlias = Path | S3Path

#: Of compressed text, by the ending of its name.
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
_URL = re.compile(r"([a-z0-9+]+)://(.*)", re.IGNORECASE)
#: As AWS allows them, and without what a URL gives a meaning.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_KEY = re.compile(r"[\w./=+@ -]*")


def parse_location(text: str, options: S3Options) -> Location:
    """Read the name of a folder: a path, made absolute, or ``s3://bucket/folder``.

    Raises:
        ValueError: It is neither; also for URLs of other storage.
    """
    url = _URL.fullmatch(text)
    if url is None:
        if text.lower().startswith(("s3:/", "s3a:/")):
            raise ValueError("a folder in S3 is written s3://bucket/folder")
        return Path(text).expanduser().absolute()
    scheme, rest = url.group(1).lower(), url.group(2)
    if scheme == "file":
        return Path("/" + rest.lstrip("/"))
    if scheme not in ("s3", "s3a"):
        raise ValueError(f"{scheme}:// is not supported; it may be a path or s3://bucket/folder")
    found = _in_s3(rest, options)
    if not _BUCKET.fullmatch(found.bucket.name):
        raise ValueError(f"{found.bucket.name!r} cannot be the name of a bucket in S3")
    if {".", ".."}.intersection(found.key.split("/")) or not _KEY.fullmatch(found.key):
        raise ValueError("the folder in the bucket may have letters, digits and _./=+@- only")
    if importlib.util.find_spec("obstore") is None:  # now, and not at the first file
        raise ValueError("S3 needs obstore, which is not installed: pip install 'deltaq[s3]'")
    return found


@contextlib.contextmanager
def create(location: Location) -> Iterator[BinaryIO]:
    """Write a file that appears whole or not at all, and is durable when this ends.

    Raises:
        FileExistsError: The file is there already; it was left as it was.
        OSError: The storage refused; nothing was left behind.
    """
    if isinstance(location, S3Path):
        with location.create() as file:
            yield file
        return
    temporary = location.with_name(f".{location.name}.{secrets.token_hex(4)}")
    make_folder(location.parent)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, location)  # unlike a rename it never replaces a file
        sync_folder(location.parent)
    finally:
        temporary.unlink(missing_ok=True)


def create_unsynced(location: Location) -> contextlib.AbstractContextManager[BinaryIO]:
    """Write a file of a name that nobody else has: on a disk it is there at once, and not synced."""
    return location.create() if isinstance(location, S3Path) else location.open("xb")


def make_folder(folder: Location) -> None:
    """Make a folder and those that it is in, durably; S3 needs none."""
    if isinstance(folder, S3Path) or folder.is_dir():
        return
    missing = [f for f in (folder, *folder.parents) if not f.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(folder: Location) -> None:
    """Make the names in a folder durable, as fsync(2) says is needed besides the file's."""
    if not isinstance(folder, S3Path):
        sync_file(folder)


def sync_file(file: Path) -> None:
    """Make what is in a file durable, whoever wrote it.

    Raises:
        OSError: The disk refused, or refused to write something out since it was last synced.
    """
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move(source: Location, target: Location) -> None:
    """Give a file another name in the same storage; in S3 both are there for a moment."""
    if isinstance(source, S3Path):
        assert isinstance(target, S3Path)
        source.rename(target)
    else:
        assert isinstance(target, Path)
        source.rename(target)


def remove_folder(location: Location) -> None:
    """Remove a folder with all that is in it, or the file in its place, if it is there."""
    if isinstance(location, S3Path):
        location.remove_tree()
        location.unlink(missing_ok=True)
    elif location.is_dir():
        shutil.rmtree(location)
    else:
        location.unlink(missing_ok=True)


def table_names(lake: Location) -> Iterator[str]:
    """Name the folders of a lake that may be tables; of one on a disk, those with a log."""
    if isinstance(lake, S3Path):
        return (f.name for f in lake.iterdir() if not f.name.startswith((".", "_")))
    return (log.parent.name for log in lake.glob("*/_delta_log"))


def source_of(location: Location) -> Any:
    """Give what pyarrow opens a Parquet file by."""
    return location.open_input() if isinstance(location, S3Path) else location


def text_stream(location: Location) -> pa.NativeFile:
    """Open a file that is decompressed as its name says."""
    if isinstance(location, S3Path):
        codec = CODECS.get(location.suffix.lower())
        opened = location.open_input()
        return pa.CompressedInputStream(opened, codec) if codec else opened
    return pa.input_stream(str(location), compression="detect")


def below(folder: Location, text: str) -> Location:
    """Locate what a text names: a URL, an absolute path, or a path in a folder."""
    if not text.startswith("s3://"):
        return Path(text) if text.startswith("/") else folder / text
    if not isinstance(folder, S3Path):
        raise ValueError(f"{text}: it is in S3, and the staging area is not")
    return _in_s3(text.removeprefix("s3://"), folder.bucket.options)


def _in_s3(place: str, options: S3Options) -> S3Path:
    """Read ``bucket/folder``, in which slashes too many mean nothing."""
    bucket, _, key = place.partition("/")
    return S3Path(Bucket(bucket, options), "/".join(part for part in key.split("/") if part))


def fetch(locations: Iterable[Location]) -> None:
    """Begin to read files that will be opened soon, where that takes a request for each."""
    for location in locations:
        if isinstance(location, S3Path):
            location.fetch()


def open_input(location: Location) -> pa.NativeFile:
    """Open a file for pyarrow."""
    return location.open_input() if isinstance(location, S3Path) else pa.OSFile(str(location))
