"""One line of what ``deltaq doctor`` says."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Attributes:
        check: What was looked at.
        level: How bad it is.
        message: What was found.
        advice: What to do about it; None when nothing is to be done.
    """

    check: str
    level: Level
    message: str
    advice: str | None = None


def counted(number: int, noun: str) -> str:
    """Write "1 table", "2 tables"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def fine(check: str, message: str) -> Finding:
    """Make a finding about which nothing is to be done."""
    return Finding(check=check, level=Level.OK, message=message)


def warning(check: str, message: str, advice: str) -> Finding:
    """Make a finding about what works, but not as it should."""
    return Finding(check=check, level=Level.WARNING, message=message, advice=advice)


def wrong(check: str, message: str, advice: str) -> Finding:
    """Make a finding about what does not work."""
    return Finding(check=check, level=Level.ERROR, message=message, advice=advice)
