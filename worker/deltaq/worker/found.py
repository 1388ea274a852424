"""What is found of a staged file, and what is to be done about it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

from deltaq.tasks.errors import InvalidRequest, InvalidTableName, StagedDataMissing
from deltaq.tasks.location import Location
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Request
from deltaq.tasks.staging import staged_request
from deltaq.worker.ledger import Committed


class Action(StrEnum):
    """What is to be done about a staged file."""

    SUBMIT = "submit"  # nobody knows it
    ACKNOWLEDGE = "acknowledge"  # it is in the table, the file is not needed any more
    LEAVE = "leave"  # Redis knows it
    KEEP = "keep"  # it cannot be read; a human should look


@dataclass(frozen=True, kw_only=True)
class Found:
    """One staged file.

    Attributes:
        path: The file.
        staged_at: When it was staged, seconds since 1970.
        action: What is to be done about it.
        reason: Why, for people.
        request: The request in it, when it had to be read.
        version: Version of the table that contains it.
        committed: What the table's log says of it, when Redis does not know it.
    """

    path: Location
    staged_at: float
    action: Action
    reason: str
    request: Request | None = None
    version: int | None = None
    committed: Committed | None = None


def of_known(file: Location, state: Outcome | State) -> Found:
    """Tell what is to be done about a file whose request Redis knows."""
    if isinstance(state, Outcome) and state.state is State.COMMITTED:
        return _committed(file, state.version)
    name = state.state if isinstance(state, Outcome) else state
    return _found(file, Action.LEAVE, f"Redis knows it: {name}")


def of_committed(file: Location, committed: Committed) -> Found:
    """Tell what is to be done about a file whose request only the table's log knows."""
    return _committed(file, committed.version, committed)


def of_unknown(file: Location) -> Found | None:
    """Tell what is to be done about a file that nobody knows; None if it is gone.

    Raises:
        StorageUnavailable: The storage cannot be read now.
    """
    try:
        request = staged_request(file)
    except (StagedDataMissing, InvalidRequest, InvalidTableName) as exc:
        # Its owner may have removed it meanwhile.
        return _found(file, Action.KEEP, exc.message) if file.is_file() else None
    if (request.table, request.request_id) != (file.parent.name, file.stem):
        reason = f"{file}: holds request {request.request_id} on table {request.table}"
        return _found(file, Action.KEEP, reason)
    return _found(file, Action.SUBMIT, "Redis does not know it", request=request)


def modified(file: Location) -> float:
    """Tell when a file was written, seconds since 1970; now, if it is gone."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _committed(file: Location, version: int | None, committed: Committed | None = None) -> Found:
    return Found(
        path=file,
        staged_at=modified(file),
        action=Action.ACKNOWLEDGE,
        reason=f"committed in version {version}",
        version=version,
        committed=committed,
    )


def _found(file: Location, action: Action, reason: str, request: Request | None = None) -> Found:
    return Found(path=file, staged_at=modified(file), action=action, reason=reason, request=request)
