"""Results of reads in the staging area: finished folders of Arrow or Parquet files."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.location import Location, make_folder
from deltaq.tasks.s3_path import S3Path

#: In the folder of a result in S3: which files are its own.
_LIST = "files.json"


def publish(folder: Path, result: Location) -> None:
    """Make a finished folder a result, unless there is one already.

    Raises:
        StorageUnavailable: The storage refused.
    """
    try:
        if isinstance(result, S3Path):
            _upload(folder, result)
            return
        make_folder(result.parent)
        folder.rename(result)
    except OSError as exc:
        if isinstance(result, S3Path) or not result.is_dir():
            raise StorageUnavailable(f"{result}: cannot be written: {exc.strerror}") from exc


def _upload(folder: Path, result: S3Path) -> None:
    """Put the files of a finished folder into S3, where the first list of them is the result."""
    attempt = secrets.token_hex(4)
    files = _rows_in(folder)
    names = [f"{attempt}-{n:06d}{file.suffix}" for n, file in enumerate(files)]
    for file, name in zip(files, names, strict=True):
        (result / name).upload(file)
    listed = msgspec.json.encode(names)
    try:
        with (result / _LIST).create() as written:
            written.write(listed)
    except FileExistsError:
        # Of another worker, which was asked as well, or ours, and the answer was lost.
        if (result / _LIST).read_bytes() != listed:
            result.remove_below(names)


def result_files(folder: Location) -> list[Location]:
    """Name the files of a published result, in order; none if there is no such result.

    Raises:
        StorageUnavailable: The storage refused.
    """
    try:
        if isinstance(folder, S3Path):
            return [folder / n for n in msgspec.json.decode((folder / _LIST).read_bytes())]
        return list(_rows_in(folder))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise StorageUnavailable(f"{folder}: cannot be read: {exc.strerror or exc}") from exc


def _rows_in(folder: Path) -> list[Path]:
    return sorted((*folder.glob("*.arrow"), *folder.glob("*.parquet")))
