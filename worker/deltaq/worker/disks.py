"""Whether the lake and the staging area can be written, and how much room is left there."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.location import Location
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea

logger = logging.getLogger(__name__)

#: Seconds between two looks; in S3, where each is two calls that are paid for, while all is well.
_EVERY, _EVERY_S3 = 2.0, 30.0
#: Seconds after which a look that has not ended is a problem of its own.
_HANGS_AFTER = 6.0
#: Seconds between two counts of the dead letters, also in S3, and how far is counted.
_COUNT_EVERY, _COUNT_EVERY_S3 = 10.0, 60.0
_MOST_DEAD = 10_000
#: Bytes that are written to see whether it is possible: more than an inode holds by itself.
_PROBE = bytes(1 << 14)


@dataclass(frozen=True, kw_only=True)
class Disk:
    """What a look at a folder found.

    Attributes:
        at: When, ``time.monotonic()``.
        problem: Why it cannot be used; None when it can.
        free_bytes: Room that is left on its disk.
        size_bytes: Of its disk.
    """

    at: float
    problem: str | None = None
    free_bytes: int = 0
    size_bytes: int = 0


class Disks:
    """Looks at the folders of a worker, every other second, or every 30 if they are in S3.

    It does so in a thread of its own: a network disk that hangs holds up nobody but that, and
    is told of.
    """

    def __init__(self, settings: Settings) -> None:
        self._folders = {"lake": settings.lake, "staging": settings.staging_root}
        self._least = settings.staging_min_free_bytes
        self._found = {name: Disk(at=time.monotonic()) for name in self._folders}
        #: Requests that were given up and are kept, as counted lately; 10,000 may be more.
        self.dead_letters = 0
        self._staging = StagingArea(settings.staging_root)
        self._due = dict.fromkeys(self._folders, 0.0)
        self._count_at = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deltaq-disks", daemon=True)

    @property
    def found(self) -> Mapping[str, Disk]:
        """What the last looks found, of ``lake`` and ``staging``."""
        return self._found

    def start(self) -> None:
        """Look now, and then again and again."""
        self._thread.start()

    def close(self) -> None:
        """Look no more. A look that hangs is left to hang."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=1.0)

    def problems(self) -> dict[str, str]:
        """Say which of the folders cannot be used, and why."""
        return {
            name: problem for name in self._folders if (problem := self._problem(name)) is not None
        }

    def _problem(self, name: str) -> str | None:
        disk = self._found[name]
        silent = time.monotonic() - disk.at
        if silent > self._pause(name) + _EVERY + _HANGS_AFTER:
            return f"{self._folders[name]}: no answer for {silent:.0f} s; its disk hangs"
        return disk.problem

    def look(self) -> None:
        """Look at what it is time for."""
        if time.monotonic() >= self._count_at:
            self._count_dead_letters()
            in_s3 = isinstance(self._staging.root, S3Path)
            self._count_at = time.monotonic() + (_COUNT_EVERY_S3 if in_s3 else _COUNT_EVERY)
        for name, folder in self._folders.items():
            if time.monotonic() >= self._due[name]:
                found = look_at(folder, least=self._least)
                self._log_change(folder, self._found[name].problem, found.problem)
                self._found[name] = found
                self._due[name] = time.monotonic() + self._pause(name)

    def _pause(self, name: str) -> float:
        """Tell for how long what was found last will do."""
        well_in_s3 = isinstance(self._folders[name], S3Path) and not self._found[name].problem
        return _EVERY_S3 if well_in_s3 else 0.0

    def _run(self) -> None:
        while True:
            self.look()
            if self._closing.wait(_EVERY):
                return

    def _log_change(self, folder: Location, before: str | None, now: str | None) -> None:
        if now is not None and before is None:
            logger.warning("not ready: %s", now)
        elif now is None and before is not None:
            logger.info("%s can be used again", folder)

    def _count_dead_letters(self) -> None:
        letters = self._staging.root.glob("dead/*/*.json")
        try:
            self.dead_letters = sum(1 for _ in islice(letters, _MOST_DEAD))
        except OSError as exc:
            logger.info("dead letters not counted: %s", exc)


def look_at(folder: Location, *, least: int) -> Disk:
    """See whether a folder can be written and leaves enough room.

    Args:
        folder: The folder; while it is not there, the one in which it will be made.
        least: Bytes that must be free.
    """
    if isinstance(folder, S3Path):
        return Disk(at=time.monotonic(), problem=_s3_problem(folder))
    place = next(f for f in (folder, *folder.parents) if f.exists())
    try:
        StagingArea(folder).require_room(least)
        # Has no name on a local disk, so that nothing is left when the worker is killed.
        with tempfile.TemporaryFile(dir=place, prefix=".deltaq-probe-", buffering=0) as file:
            file.write(_PROBE)
        problem = None
    except DeltaqError as exc:
        problem = exc.message
    except OSError as exc:
        problem = f"{place}: cannot be written: {exc.strerror or exc}"
    try:
        room = os.statvfs(place)
    except OSError:
        return Disk(at=time.monotonic(), problem=problem)
    return Disk(
        at=time.monotonic(),
        problem=problem,
        free_bytes=room.f_bavail * room.f_frsize,
        size_bytes=room.f_blocks * room.f_frsize,
    )


def _s3_problem(folder: S3Path) -> str | None:
    probe = folder / f".deltaq-probe-{secrets.token_hex(4)}"
    try:
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)
    except (OSError, DeltaqError) as exc:
        return f"{folder}: cannot be written: {getattr(exc, 'strerror', None) or exc}"
    return None
