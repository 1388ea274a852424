"""When a table is maintained without anybody asking: its policy, kept in the table itself.

A table's own wishes are properties of the table, so that they go with it and outlive Redis; what
a table does not say is in the settings. Neither engine minds properties of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from deltaq.tasks.errors import InvalidRequest
from deltaq.tasks.request import MAX_RETENTION_HOURS, SAFE_RETENTION_HOURS
from deltaq.tasks.suggest import did_you_mean

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.tasks.settings import Settings

#: Whose requests are those that a policy asks for; nobody hears of them.
CLIENT_ID = "0" * 32
#: Before the name of a policy's property.
PREFIX = "deltaq.policy."
#: As ``hours`` is written.
HOURS = r"(?:[01]\d|2[0-3]):[0-5]\d-(?:[01]\d|2[0-3]):[0-5]\d"
_ALWAYS = "always"
#: Above every count of files, commits and hours that anybody can mean.
_MOST = 1_000_000_000


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """When a table is maintained.

    Attributes:
        compact_files: Small files in one partition above which it is compacted; 0 for never.
        zorder: Columns along which rows are ordered.
        zorder_hours: How often that is done, at most; 0 for never.
        vacuum_hours: Age of the files, no longer needed, that a vacuum removes once a day; 0 for
            never.
        checkpoint_commits: Commits after which a checkpoint is written.
        hours: When anything but a checkpoint may begin, as ``22:00-06:00`` in UTC, or ``always``.
    """

    compact_files: int = 32
    zorder: tuple[str, ...] = ()
    zorder_hours: int = 24
    vacuum_hours: int = 0
    checkpoint_commits: int = 20
    hours: str = _ALWAYS

    def may_begin(self, now: datetime) -> bool:
        """Tell whether a time is within ``hours``."""
        if self.hours == _ALWAYS:
            return True
        begin, end = self.hours.split("-")
        clock = now.astimezone(UTC).strftime("%H:%M")
        if begin <= end:
            return begin <= clock < end
        return clock >= begin or clock < end


def default_policy(settings: Settings) -> Policy:
    """Return the policy of tables that have no wishes of their own."""
    return Policy(
        compact_files=settings.policy_compact_files,
        vacuum_hours=settings.policy_vacuum_hours,
        checkpoint_commits=settings.policy_checkpoint_commits,
        hours=settings.policy_hours or _ALWAYS,
    )


def table_policy(properties: Mapping[str, str], default: Policy) -> Policy:
    """Read the policy of a table from its properties; one that cannot be read counts as unset."""
    wishes = {}
    for name in Policy.__struct_fields__:
        text = properties.get(PREFIX + name)
        if text is None:
            continue
        try:
            wishes[name] = _read(name, text)
        except (InvalidRequest, ValueError):
            continue  # written by somebody else's hand
    return msgspec.structs.replace(default, **wishes)


def policy_properties(wishes: Mapping[str, Any]) -> dict[str, str]:
    """Write wishes as properties of a table.

    Raises:
        InvalidRequest: There is no such wish, or it cannot be meant.
    """
    if not wishes:
        raise InvalidRequest("the policy names nothing to set")
    written = {}
    for name, value in wishes.items():
        _check_name(name)
        written[PREFIX + name] = _written(name, value)
    wishes_in(written)
    return written


def wishes_in(properties: Mapping[str, str]) -> dict[str, Any]:
    """Read those of a table's properties that are its policy.

    Raises:
        InvalidRequest: There is no such wish, or it cannot be meant.
    """
    wishes = {}
    for key, text in properties.items():
        if key.startswith(PREFIX):
            name = key.removeprefix(PREFIX)
            _check_name(name)
            wishes[name] = _read(name, text)
    return wishes


def _check_name(name: str) -> None:
    known = Policy.__struct_fields__
    if name not in known:
        raise InvalidRequest(
            f"a policy has no {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}"
        )


def _written(name: str, value: Any) -> str:
    if name == "zorder":
        columns = [value] if isinstance(value, str) else list(value)
        return msgspec.json.encode(columns).decode()
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidRequest(f"policy {name}: {value!r} is neither a number nor text")
    return str(value)


def _read(name: str, text: str) -> Any:
    if name == "zorder":
        return _columns(text)
    if name == "hours":
        if text != _ALWAYS and not re.fullmatch(HOURS, text):
            raise InvalidRequest(f"policy hours {text!r}: as '22:00-06:00' in UTC, or '{_ALWAYS}'")
        return text
    least = 1 if name == "checkpoint_commits" else 0
    if not re.fullmatch(r"\d{1,10}", text) or not least <= int(text) <= _MOST:
        raise InvalidRequest(f"policy {name}: {text!r} is no whole number from {least}")
    number = int(text)
    if (
        name == "vacuum_hours"
        and number
        and not SAFE_RETENTION_HOURS <= number <= MAX_RETENTION_HOURS
    ):
        raise InvalidRequest(
            f"policy vacuum_hours={number}: nobody watches what a policy removes, so give at least "
            f"{SAFE_RETENTION_HOURS} hours, or 0 for never"
        )
    return number


def _columns(text: str) -> tuple[str, ...]:
    try:
        columns: Iterable[str] = msgspec.json.decode(text, type=list[str])
    except msgspec.MsgspecError as exc:
        raise InvalidRequest(f"policy zorder: {text!r} names no columns: {exc}") from exc
    return tuple(columns)
