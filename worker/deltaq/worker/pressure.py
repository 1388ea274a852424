"""How full this worker's memory is, and how much smaller its commit groups are for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deltaq.tasks.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds for which a reading is good.
_FRESH = 1.0


@dataclass(frozen=True, kw_only=True)
class GroupLimits:
    """What may be in one commit."""

    max_requests: int
    max_bytes: int


def limits_at(limits: GroupLimits, *, used: float, high: float) -> GroupLimits:
    """Shrink the limits of groups, down to one request when no memory is left.

    Args:
        limits: Those at rest.
        used: Share of the memory that is used.
        high: Share from which they shrink; at 1 they never do.
    """
    if used <= high or high >= 1:
        return limits
    room = max(0.0, (1 - used) / (1 - high))
    return GroupLimits(
        max_requests=max(1, int(limits.max_requests * room)),
        max_bytes=max(1, int(limits.max_bytes * room)),
    )


class Pressure:
    """Reads how much memory is used, at most once a second. Threads may share one.

    Args:
        limits: The limits of groups at rest.
        high: Share of the memory from which they shrink.
        root: Where ``proc`` and ``sys`` are.
    """

    def __init__(self, limits: GroupLimits, *, high: float, root: Path = Path("/")) -> None:
        self._limits = limits
        self._high = high
        self._machine = root / "proc/meminfo"
        self._groups = list(_control_groups(root))
        self._read_at = float("-inf")
        self._used = 0.0

    @classmethod
    def of(cls, settings: Settings) -> Pressure:
        """Read it for the limits that settings give."""
        limits = GroupLimits(
            max_requests=settings.group_max_requests, max_bytes=settings.group_max_bytes
        )
        return cls(limits, high=settings.memory_high)

    def limits(self) -> GroupLimits:
        """Return the limits for a group that begins now."""
        if time.monotonic() >= self._read_at + _FRESH:
            before, self._used = self._used, self.used()
            self._read_at = time.monotonic()
            if (self._used > self._high) != (before > self._high):
                smaller = "smaller" if self._used > self._high else "of full size again"
                logger.warning(
                    "%.0f %% of the memory is used; groups are %s", 100 * self._used, smaller
                )
        return limits_at(self._limits, used=self._used, high=self._high)

    def used(self) -> float:
        """Read the share that is used: of the machine, or of a control group if that is fuller."""
        return max([self._used_of_machine(), *(group.used() for group in self._groups)])

    def _used_of_machine(self) -> float:
        try:
            machine = _numbers(self._machine)
        except FileNotFoundError:
            return 0.0  # no Linux: nobody tells
        return 1 - machine["MemAvailable:"] / machine["MemTotal:"]


@dataclass(frozen=True, kw_only=True)
class _ControlGroup:
    """A group of processes with a limit of memory: ours, or one that has ours in it."""

    limit: Path
    current: Path
    stat: Path
    #: Name of the cached file pages that the kernel gives up without being asked twice.
    cached: str

    def used(self) -> float:
        try:
            limit = self.limit.read_text().strip()
            current = int(self.current.read_text())
            cached = _numbers(self.stat).get(self.cached, 0)
        except OSError:
            return 0.0  # the process was moved and the group removed
        return 0.0 if limit == "max" else (current - cached) / int(limit)


def _control_groups(root: Path) -> Iterator[_ControlGroup]:
    """List the control groups of this process that may limit its memory, for both versions."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return  # no Linux, or no control groups
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, names = mounts, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = mounts / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = mount / path.lstrip("/")
        # In a container the path may be that of the outer world, and the mount is the group.
        for folder in (f for f in (own, *own.parents) if f.is_relative_to(mount)):
            if (folder / names[0]).exists() and (folder / names[1]).exists():
                yield _ControlGroup(
                    limit=folder / names[0],
                    current=folder / names[1],
                    stat=folder / "memory.stat",
                    cached=names[2],
                )


def _numbers(file: Path) -> dict[str, int]:
    rows = (line.split() for line in file.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1}
