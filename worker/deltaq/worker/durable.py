"""Makes a commit outlive a power cut, which neither Spark nor delta-rs does on a local disk.

A committed request's staged file is deleted, so the table must not depend on what is only
in the page cache.
"""

from __future__ import annotations

import base64
import contextlib
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.location import Location, sync_file, sync_folder
from deltaq.tasks.s3_path import S3Path
from deltaq.worker.ledger import log_entry

_B85 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_Z85 = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
#: Characters of a UUID in Z85.
_UUID_LENGTH = 20
#: Files that are synced at the same time: the disk writes them together, and its journal once.
_AT_ONCE = 4

_decoder = msgspec.json.Decoder()


def read_commit(table: Location, version: int) -> list[dict[str, Any]]:
    """Read the actions of a commit from the table's log.

    Raises:
        StorageUnavailable: The log cannot be read.
    """
    entry = log_entry(table, version)
    try:
        actions: list[dict[str, Any]] = _decoder.decode_lines(entry.read_bytes())
        return actions
    except OSError as exc:
        raise StorageUnavailable(f"{entry}: cannot be read: {exc.strerror}") from exc


def sync_commit(table: Location, version: int) -> None:
    """Sync a commit that is in the log: its files, the entry, and the folders that name them.

    Raises:
        StorageUnavailable: The storage refused; whether the commit is durable is not known.
    """
    if isinstance(table, S3Path):
        return  # what S3 has taken, it keeps
    entry = log_entry(table, version)
    assert isinstance(entry, Path)
    files = {entry}
    for action in read_commit(table, version):
        files.update(_written_files(table, action))
    try:
        _each(_sync_if_there, files)
        _each(sync_folder, _folders(table, files, new=version == 0))
    except OSError as exc:
        raise StorageUnavailable(
            f"{exc.filename or table}: cannot be synced: {exc.strerror}"
        ) from exc


def _each(sync: Callable[[Path], None], places: Collection[Path]) -> None:
    """Sync each of some places, more than a few of them side by side."""
    if len(places) <= _AT_ONCE:
        for place in places:
            sync(place)
        return
    with ThreadPoolExecutor(_AT_ONCE, "deltaq-sync") as threads:
        for _ in threads.map(sync, places):
            pass  # what one of them raised is raised here


def _sync_if_there(file: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # a later commit replaced it, VACUUM removed it
        sync_file(file)


def _written_files(table: Path, action: dict[str, Any]) -> Iterator[Path]:
    """Name the files that an action adds; paths in the log are URL-encoded."""
    added = action.get("add") or action.get("cdc")
    if added is None:
        return
    yield table / unquote(added["path"])
    vector = added.get("deletionVector")
    if vector and vector["storageType"] == "u":
        yield table / _vector_name(vector["pathOrInlineDv"])


def _vector_name(encoded: str) -> str:
    """Derive a deletion vector's file: an optional folder, then a UUID in Z85."""
    folder, identity = encoded[:-_UUID_LENGTH], encoded[-_UUID_LENGTH:].encode()
    # Z85 and the Base85 of the standard library differ in their alphabets only.
    raw = base64.b85decode(identity.translate(bytes.maketrans(_Z85, _B85)))
    return f"{folder}/deletion_vector_{uuid.UUID(bytes=raw)}.bin".lstrip("/")


def _folders(table: Path, files: set[Path], *, new: bool) -> set[Path]:
    """List the folders whose names must last; those of new partitions are new themselves."""
    folders = {table}
    for file in files:
        for folder in file.parents:
            if folder == table or folder in folders or not folder.is_relative_to(table):
                break
            folders.add(folder)
    if new:
        folders.update((table.parent, table.parent.parent))
    return folders
