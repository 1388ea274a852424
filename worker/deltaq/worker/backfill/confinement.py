"""Keeps backfills to the folders from which workers may load.

A manifest names files as its client likes, and workers read them with rights of their own: without
a limit, who may load could read whatever a worker can.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from deltaq.tasks.errors import InvalidRequest
from deltaq.tasks.location import Location, below
from deltaq.tasks.manifest import Part, Slice
from deltaq.tasks.s3_path import S3Path


def source_path(piece: Slice, folder: Location, allowed: Sequence[Location]) -> Location:
    """Find out where a source really is, links and ``..`` resolved. Open what this returns.

    Args:
        piece: The source.
        folder: That of the backfill: what its client uploaded is below ``uploads``, and may be read.
        allowed: Folders from which workers may load besides, with all below them.

    Raises:
        InvalidRequest: It is elsewhere. Whether there is such a file is not told.
    """
    with contextlib.suppress(ValueError):  # of a name that no file can have
        real = _resolved(below(folder, piece.path))
        if any(_is_below(real, _resolved(root)) for root in (folder / "uploads", *allowed)):
            return real
    named = ", ".join(map(str, allowed)) or "none"
    raise InvalidRequest(
        f"{piece.path!r} is, by its path or by a link in it, outside the folders from which "
        f"workers may load ({named}): add its folder to backfill_sources in the settings of the "
        "workers, or upload it (upload=True, in a shell --upload)",
        details={"file": piece.path, "setting": "backfill_sources"},
    )


def check_sources(parts: Iterable[Part], folder: Location, allowed: Sequence[Location]) -> None:
    """Make sure that workers may load all sources of some parts.

    Raises:
        InvalidRequest: They may not load one.
    """
    for part in parts:
        for piece in part.slices:
            source_path(piece, folder, allowed)


def _resolved(location: Location) -> Location:
    return location if isinstance(location, S3Path) else Path(os.path.realpath(location))


def _is_below(location: Location, folder: Location) -> bool:
    if isinstance(location, S3Path):
        # Whether a server takes .. for a name or a way is its own business.
        plain = not {"", ".", ".."}.intersection(location.key.split("/"))
        return isinstance(folder, S3Path) and plain and location.is_relative_to(folder)
    return isinstance(folder, Path) and location.is_relative_to(folder)
