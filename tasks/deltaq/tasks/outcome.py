"""What came of a request."""

from __future__ import annotations

import sys
from enum import StrEnum
from html import escape
from typing import Any

import msgspec

from deltaq.tasks.error_info import ErrorInfo, error_from_info
from deltaq.tasks.errors import DeltaqError


class State(StrEnum):
    """Where a request stands. Everything but QUEUED is final.

    Examples:
        >>> future = client.append("prices", frame)
        >>> future.result(timeout=30).state is State.COMMITTED
        True
    """

    QUEUED = "queued"
    COMMITTED = "committed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one request, or the answer to one query.

    Attributes:
        request_id: The request's id.
        table: The table it was about.
        operation: ``append``, ``merge``, ``read`` ...
        state: A final state.
        version: Version of the table that contains the request.
        rows: Rows that the request brought; for a read, rows in the result.
        inserted: Rows added, where the engine can tell for this request alone.
        updated: Rows changed in place, likewise.
        deleted: Rows removed, likewise.
        engine: What performed it; None when a lost outcome was read back from the table's log.
        engine_reason: Why that engine.
        sequence: Its place in its lane of the table.
        group_size: Requests in the same commit, itself included.
        attempt: Tries it took, from 1.
        waited_seconds: From submission (client's clock) to the start of its commit.
        commit_seconds: What the commit took.
        value: Answer to a query that needs no table: a bool, a list of names, a dict. Of a vacuum
            with ``dry_run``, the files that it would remove.
        error: Why it failed, when it did.

    Examples:
        >>> future = client.append("prices", frame)
        >>> outcome = future.result(timeout=30)
        >>> outcome.version, outcome.inserted, outcome.engine, outcome.attempt
        (1, 2, 'native', 1)
    """

    request_id: str
    table: str
    operation: str
    state: State
    version: int | None = None
    rows: int | None = None
    inserted: int | None = None
    updated: int | None = None
    deleted: int | None = None
    engine: str | None = None
    engine_reason: str | None = None
    sequence: int | None = None
    group_size: int | None = None
    attempt: int | None = None
    waited_seconds: float | None = None
    commit_seconds: float | None = None
    value: Any = None
    error: ErrorInfo | None = None

    def as_error(self) -> DeltaqError | None:
        """Return the typed error of a request that failed, None for any other.

        Examples:
            >>> future = client.append("prices", pd.DataFrame({"price": ["cheap"]}))
            >>> error = future.exception(timeout=30)
            >>> outcome = client.outcome("prices", future.request_id)
            >>> type(outcome.as_error()) is type(error)
            True
        """
        if self.error is None:
            return None
        return error_from_info(self.error, request_id=self.request_id, table=self.table)

    def __repr__(self) -> str:
        told = ", ".join(
            f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value!r}"
            for name, value in self._told()
        )
        return f"<Outcome {self.operation} on {self.table}: {self.state}; {told}>"

    def _repr_html_(self) -> str:
        """Show it as a table in a notebook."""
        cells = [("state", str(self.state)), *self._told()]
        rows = "".join(
            f"<tr><th style='text-align:left'>{name}</th>"
            f"<td style='text-align:left'>{escape(_cell(value))}</td></tr>"
            for name, value in cells
        )
        caption = escape(f"{self.operation} on {self.table}")
        return f"<table><caption>{caption}</caption>{rows}</table>"

    def _told(self) -> list[tuple[str, Any]]:
        """List what it has to tell besides what it is of: version first, the id last."""
        names = [f for f in self.__struct_fields__ if f not in ("table", "operation", "state")]
        named = [(name, getattr(self, name)) for name in [*names[1:], names[0]]]
        return [(name, value) for name, value in named if value is not None]


def _cell(value: object) -> str:
    if isinstance(value, ErrorInfo):
        return f"{value.code}: {value.message}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


#: What a request's key and the other fields of its hash say already.
_SAID = ("request_id", "table", "state")
#: An outcome as Redis keeps it: a list without names, a third of the size. Hundreds of thousands
#: are kept for days. Fields may be added to Outcome at its end only.
_Kept: Any = msgspec.defstruct(
    "_Kept",
    [
        (f.encode_name, f.type) if f.required else (f.encode_name, f.type, f.default)
        for f in msgspec.structs.fields(Outcome)
        if f.encode_name not in _SAID
    ],
    array_like=True,
)
_kept_fields = [f.encode_name for f in msgspec.structs.fields(_Kept)]

#: Texts that are the same in many outcomes: each is held once.
_ALIKE = ("table", "operation", "engine", "engine_reason")

_encoder = msgspec.json.Encoder()
_kept_decoder = msgspec.json.Decoder(_Kept)
_list_decoder = msgspec.json.Decoder(list[Outcome])


def encode_outcome(outcome: Outcome) -> bytes:
    """Write an outcome as Redis keeps it, in the hash of its request."""
    return _encoder.encode([getattr(outcome, name) for name in _kept_fields])


def encode_outcomes(outcomes: list[Outcome]) -> bytes:
    """Write what one client hears at once as a JSON list."""
    return _encoder.encode(outcomes)


def decode_outcome(
    wire: bytes | str, *, table: str, request_id: str, state: State | str
) -> Outcome:
    """Read an outcome that Redis kept; whose it is and its state were kept beside it."""
    kept = msgspec.structs.asdict(_kept_decoder.decode(wire))
    return Outcome(table=table, request_id=request_id, state=State(state), **kept)


def decode_outcomes(wire: bytes | str) -> list[Outcome]:
    """Read a published list of outcomes."""
    outcomes = _list_decoder.decode(wire)
    for outcome in outcomes:  # a program may hold hundreds of thousands
        for name in _ALIKE:
            if text := getattr(outcome, name):
                msgspec.structs.force_setattr(outcome, name, sys.intern(text))
    return outcomes
