"""Checks of the lake and the staging area: there, writable, atomic, durable, with room."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.location import Location, sync_folder
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import MiB, Settings
from deltaq.worker.doctor.finding import Finding, fine, warning, wrong
from deltaq.worker.s3_check import try_s3

#: Seconds for a sync above which each submission and each commit is slow.
_SLOW_SYNC = 0.1
#: Share of a disk that should be free.
_LITTLE_ROOM = 0.05


def check_storage(settings: Settings) -> Iterator[Finding]:
    """Check the folders; files are made in each and removed again."""
    lake, staging = settings.lake, settings.staging_root
    yield from _check("lake", lake)
    # The staging area in the lake is made by the first request.
    if settings.staging is not None or (isinstance(staging, Path) and staging.exists()):
        yield from _check("staging", staging)
    where = [f for f in (staging, lake) if isinstance(f, Path) and f.is_dir()]
    if where:
        yield from _check_room(where[0], settings.staging_min_free_bytes)


def _check(check: str, location: Location) -> Iterator[Finding]:
    if isinstance(location, S3Path):
        return _check_s3(check, location)
    return _check_folder(check, location)


def _check_s3(check: str, folder: S3Path) -> Iterator[Finding]:
    """Do what a commit does: write, unless something is there."""
    try:
        seconds = try_s3(folder)
    except DeltaqError as exc:
        yield wrong(
            check, exc.message, "mend it, or the setting; clients and workers need the same"
        )
    else:
        yield fine(check, f"{folder}: atomic, a write takes {seconds * 1000:,.1f} ms")


def _check_folder(check: str, folder: Path) -> Iterator[Finding]:
    if not folder.exists():
        yield warning(
            check,
            f"{folder} is not there",
            "the first request makes it; if it should be there, correct the setting or mount it",
        )
        return
    if not folder.is_dir():
        yield wrong(check, f"{folder} is no folder", f"set '{check}' to a folder")
        return
    try:
        # Its dot keeps it from being taken for a table.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as name:
            yield from _try_out(check, folder, Path(name))
    except OSError as exc:
        yield wrong(
            check,
            f"{folder} cannot be written: {exc.strerror}",
            "give clients and workers the right to read and write there",
        )


def _try_out(check: str, folder: Path, place: Path) -> Iterator[Finding]:
    """Do what a commit does: write, sync, put in place unless something is there."""
    file, entry = place / "file", place / "entry"
    began = time.perf_counter()
    with file.open("wb") as written:
        written.write(b"deltaq")
        written.flush()
        os.fsync(written.fileno())
    sync_folder(place)
    seconds = time.perf_counter() - began
    try:
        os.link(file, entry)
    except OSError as exc:
        yield wrong(
            check,
            f"{folder} is on a file system without hard links ({exc.strerror}): two committers "
            "could overwrite each other",
            "use a local disk, NFS or another file system that knows them",
        )
        return
    try:
        os.link(file, entry)
    except FileExistsError:
        if seconds > _SLOW_SYNC:
            yield warning(
                check,
                f"{folder}: a sync takes {seconds * 1000:,.0f} ms, and each request waits for one",
                "use a faster disk, or submit several frames at once",
            )
        else:
            yield fine(check, f"{folder}: atomic, a sync takes {seconds * 1000:,.1f} ms")
    else:
        yield wrong(
            check,
            f"{folder}: a hard link replaced a file, so commits are not atomic",
            "use another file system",
        )


def _check_room(folder: Path, least: int) -> Iterator[Finding]:
    disk = shutil.disk_usage(folder)
    told = f"{disk.free // MiB:,} MiB free of {disk.total // MiB:,} for {folder}"
    if disk.free < least:
        yield wrong(
            "room",
            f"{told}: requests are refused below staging_min_free_bytes ({least // MiB:,} MiB)",
            "make room, or put 'staging' on another disk",
        )
    elif disk.free < _LITTLE_ROOM * disk.total:
        yield warning("room", told, "make room before requests are refused")
    else:
        yield fine("room", told)
