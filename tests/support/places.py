"""Where a test's lake is: in a folder, or with ``--storage s3`` in a bucket."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from deltaq.tasks.location import Location
from deltaq.tasks.s3_path import S3Path
from deltaq.worker import System, embedded


def settings_of(place: Location) -> dict[str, Any]:
    """Name the settings of deltaq by which a place in S3 is reached."""
    if isinstance(place, Path):
        return {}
    options = place.bucket.options
    return {
        "s3_endpoint": options.endpoint,
        "s3_region": options.region,
        "s3_access_key_id": options.access_key_id,
        "s3_secret_access_key": options.secret_access_key,
    }


def variables_of(place: Location) -> dict[str, str]:
    """Name the environment variables by which a program of deltaq reaches a place in S3."""
    return {f"DELTAQ_{name.upper()}": value for name, value in settings_of(place).items()}


@contextmanager
def system_at(place: Location, **settings: Any) -> Iterator[System]:
    """Run a system with its lake at a place; nothing of it stays on this machine's disk."""
    given = {**settings_of(place), **settings}
    with ExitStack() as remains, embedded(str(place / "lake"), **given) as system:
        if isinstance(place, S3Path):
            remains.callback(shutil.rmtree, system.log.parent)
        yield system


def on_disk(place: Location) -> Path:
    """Take a place for a folder, in a test that is about a disk."""
    assert isinstance(place, Path)
    return place


def files_in(place: Location) -> list[Location]:
    """List all files below a folder, sorted."""
    if isinstance(place, S3Path):
        # Without the empty objects by which Hadoop marks folders.
        return sorted(file for file in place.walk_files() if file.is_file())
    return sorted(path for path in place.rglob("*") if path.is_file())
