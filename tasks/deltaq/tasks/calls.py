"""What a client asks of an inbox: keys and arguments in, answers out. Nothing is sent here.

The scripts are in ``lua/``; clients that wait differently send them in their own ways.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltaq.tasks import keys
from deltaq.tasks.errors import QueueFull, RequestIdConflict
from deltaq.tasks.outcome import Outcome, State, decode_outcome, encode_outcome, encode_outcomes
from deltaq.tasks.request import (
    Lane,
    Request,
    encode_request,
    milliseconds_left,
    operation_of,
)

if TYPE_CHECKING:
    from deltaq.tasks.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """The answer to a submission.

    Attributes:
        sequence: Place of the request in its lane; 0 if it expired before it got one.
        ring: The caller must send a wake-up for the lane.
        known: The request had been submitted before.
        outcome: What came of it, when it is known and settled already.
    """

    sequence: int
    ring: bool
    known: bool = False
    outcome: Outcome | None = None


def submission(
    request: Request, settings: Settings, *, anew: bool
) -> tuple[list[str], list[object]]:
    """Name the keys and arguments of submit.lua."""
    table, left = request.table, milliseconds_left(request)
    return [
        keys.request(table, request.request_id),
        keys.inbox(table, request.lane),
        keys.seq(table),
        keys.wake(table),
        keys.TABLES,
    ], [
        encode_request(request),
        request.digest,
        request.lane,
        table,
        request.size_bytes,
        settings.inbox_max_requests,
        settings.inbox_max_bytes,
        secrets.token_hex(8),
        "" if left is None else left,
        int(anew),
    ]


def submitted(request: Request, settings: Settings, reply: list[object]) -> Submitted:
    """Read what submit.lua returned.

    Raises:
        RequestIdConflict: The id was used for a request with other content.
        QueueFull: The lane has as many requests or bytes as it may; nothing was queued.
    """
    match reply:
        case ["accepted", int(sequence), ring]:
            return Submitted(sequence=sequence, ring=bool(ring))
        case ["known", int(sequence), State.QUEUED, _]:
            # Rung again: the first submission may have died before its wake-up.
            return Submitted(sequence=sequence, ring=True, known=True)
        case ["known", int(sequence), str(state), str(outcome)]:
            settled = decode_outcome(
                outcome, table=request.table, request_id=request.request_id, state=state
            )
            return Submitted(sequence=sequence, ring=False, known=True, outcome=settled)
        case ["expired"]:
            late = unapplied(request, State.EXPIRED)
            return Submitted(sequence=0, ring=False, outcome=late)
        case ["conflict"]:
            raise RequestIdConflict(
                f"request id {request.request_id} was used before for another request on "
                f"table {request.table}: the same id must come with the same operation, "
                "options and rows",
                request_id=request.request_id,
                table=request.table,
            )
        case ["full", int(waiting), int(size_bytes)]:
            raise QueueFull(
                f"{waiting} requests with {size_bytes} bytes wait in lane {request.lane} of "
                f"table {request.table} (limits: inbox_max_requests="
                f"{settings.inbox_max_requests}, inbox_max_bytes="
                f"{settings.inbox_max_bytes}); submit again when workers have caught up",
                request_id=request.request_id,
                table=request.table,
                details={
                    "waiting": waiting,
                    "waiting_bytes": size_bytes,
                    "max_requests": settings.inbox_max_requests,
                    "max_bytes": settings.inbox_max_bytes,
                },
            )
    raise AssertionError(f"submit.lua replied {reply!r}")


def cancellation(
    request: Request, settings: Settings, reason: Outcome
) -> tuple[list[str], list[object]]:
    """Name the keys and arguments of cancel.lua, which returns the state after the call."""
    return [
        keys.request(request.table, request.request_id),
        keys.seq(request.table),
        keys.CANCELLED,
        *(keys.inbox(request.table, lane) for lane in Lane),
    ], [
        encode_outcome(reason),
        settings.outcome_ttl,
        request.size_bytes,
        keys.client_channel(request.client_id),
        encode_outcomes([reason]),
        f"{request.table} {reason.operation}",
        *Lane,
    ]


def look_ups(requests: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Write the commands that look up requests, given as (table, request id) pairs."""
    return [("HMGET", keys.request(*request), "state", "outcome") for request in requests]


def looked_up(
    requests: Sequence[tuple[str, str]], replies: Sequence[Any]
) -> list[Outcome | State | None]:
    """Read the replies to :func:`look_ups`: outcomes when settled, QUEUED, None when unknown."""
    return [
        decode_outcome(outcome, table=table, request_id=request_id, state=state)
        if outcome
        else State(state)
        if state
        else None
        for (table, request_id), (state, outcome) in zip(requests, replies, strict=True)
    ]


def look_at_claims(lanes: Iterable[tuple[str, Lane]]) -> list[tuple[str, ...]]:
    """Write the commands that tell how far workers have begun with lanes of tables."""
    return [("HGET", keys.seq(table), f"claimed:{lane}") for table, lane in lanes]


def claims(replies: Iterable[Any]) -> list[int]:
    """Read the replies to :func:`look_at_claims`: last sequences, 0 where none was begun with."""
    return [int(reply or 0) for reply in replies]


def unapplied(request: Request, state: State, *, sequence: int | None = None) -> Outcome:
    """Make the outcome of a request that was cancelled, or expired, while queued."""
    return Outcome(
        request_id=request.request_id,
        table=request.table,
        operation=operation_of(request),
        state=state,
        sequence=sequence,
    )
