"""What is taken out of an inbox, and what is put down when it is settled."""

from __future__ import annotations

from dataclasses import dataclass

from deltaq.tasks.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One request's place in an inbox, its wire form not yet read.

    Attributes:
        sequence: Its place.
        wire: The request.
        deadline_ms: When it expires, by Redis' clock; None for never.
    """

    sequence: int
    wire: str
    deadline_ms: int | None = None


@dataclass(frozen=True, kw_only=True)
class Clock:
    """What decides whether a request of one lane has expired.

    Attributes:
        now_ms: The time by Redis' clock, milliseconds since 1970.
        claimed: Last sequence that any committer ever claimed. What was claimed was begun in
            time, and a holder thought dead may still commit it.
    """

    now_ms: int
    claimed: int


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The outcome of a request, ready to be acknowledged."""

    outcome: Outcome
    client_id: str
    size_bytes: int
