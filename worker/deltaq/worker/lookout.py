"""Finds the requests that wait, so that Flower shows them and they can be revoked there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import redis

from deltaq.tasks import keys
from deltaq.tasks.connection import queue_errors
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.inbox import LANES, Inbox
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Lane, Request, decode_request

#: Milliseconds after which another worker looks in place of one that is silent.
_TURN_MS = 5000
#: Tables and requests of a lane in one look; the next one goes on from there.
_TABLES, _REQUESTS = 200, 200
#: Waiting requests that are shown at most, and those of them that are looked up in one look.
_MOST_SHOWN, _LOOK_UPS = 2000, 500


@dataclass(frozen=True)
class _Mark:
    """How far a lane was shown, and how far it reached at the last look."""

    shown: int = 0
    reached: int = 0


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a look found.

    Attributes:
        waiting: Requests that wait since the look before, and were not found then.
        cancelled: Outcomes of requests that were shown and have been cancelled by a client.
    """

    waiting: list[Request]
    cancelled: list[Outcome]


class Lookout:
    """Looks at the inboxes, for all workers. For one thread.

    What a worker takes within a second or so is not found: it tells of that itself.
    """

    def __init__(self, client: redis.Redis, inbox: Inbox, *, name: str) -> None:
        self._client = client
        self._inbox = inbox
        self._name = name
        self._cursor = 0
        self._marks: dict[tuple[str, Lane], _Mark] = {}
        self._met: set[tuple[str, Lane]] = set()
        self._shown: dict[tuple[str, str], None] = {}

    def look(self) -> Found:
        """Find what is new, if it is this worker's turn.

        Raises:
            QueueUnavailable: Redis did not answer.
        """
        with queue_errors():
            if not self._is_its_turn():
                self.forget()
                return Found(waiting=[], cancelled=[])
            waiting = [r for place, read in self._read() for r in self._show(place, read)]
        return Found(waiting=waiting, cancelled=self._cancelled())

    def forget(self) -> None:
        """Begin anew: somebody else looks, or nobody listens."""
        self._cursor = 0
        self._marks.clear()
        self._met.clear()
        self._shown.clear()

    def _is_its_turn(self) -> bool:
        if self._client.set(keys.LOOKOUT, self._name, nx=True, px=_TURN_MS):
            return True
        mine = self._client.get(keys.LOOKOUT) == self._name
        return mine and bool(self._client.pexpire(keys.LOOKOUT, _TURN_MS))

    def _read(self) -> list[tuple[tuple[str, Lane], list[Any]]]:
        """Read what stands behind the marks of the lanes of some tables."""
        answer: Any = self._client.sscan(keys.TABLES, self._cursor, count=_TABLES)
        self._cursor, tables = answer
        places = [(table, lane) for table in tables for lane in LANES]
        pipeline = self._client.pipeline(transaction=False)
        for place in places:
            shown = self._marks.get(place, _Mark()).shown
            pipeline.xrange(keys.inbox(*place), min=f"({shown}-0", count=_REQUESTS)
        found = list(zip(places, pipeline.execute(), strict=True))
        self._met.update(places)
        if not self._cursor:  # all tables have been met: the others are asleep, or gone
            self._marks = {place: m for place, m in self._marks.items() if place in self._met}
            self._met.clear()
        return found

    def _show(self, place: tuple[str, Lane], read: list[Any]) -> Iterator[Request]:
        """Take what was there at the last look, too, and move the mark."""
        if not read:
            return
        mark = self._marks.get(place, _Mark())
        shown = mark.shown
        sequences = [int(entry.partition("-")[0]) for entry, _ in read]
        for sequence, (_, fields) in zip(sequences, read, strict=True):
            if sequence > mark.reached or len(self._shown) >= _MOST_SHOWN:
                break
            shown = sequence
            try:
                request = decode_request(fields["r"])
            except DeltaqError:
                continue  # a worker will refuse it, and tell
            self._shown[place[0], request.request_id] = None
            yield request
        self._marks[place] = _Mark(shown=shown, reached=max(mark.reached, sequences[-1]))

    def _cancelled(self) -> list[Outcome]:
        """Look up some of those shown, in turns; only of cancelled ones no worker tells."""
        asked = list(islice(self._shown, _LOOK_UPS))
        cancelled = []
        for key, known in zip(asked, self._inbox.outcomes(asked), strict=True):
            del self._shown[key]
            if known is State.QUEUED:
                self._shown[key] = None
            elif isinstance(known, Outcome) and known.state is State.CANCELLED:
                cancelled.append(known)
        return cancelled
