"""Paths of files for tests that know where these are."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from deltaq.tasks.location import Location


def as_path(location: Location) -> Path:
    """Call a location a path: it is one, or it is in S3 and has the methods that are used."""
    return cast("Path", location)
