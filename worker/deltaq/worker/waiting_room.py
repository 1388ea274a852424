"""Where queries wait for a table to come to a version, without keeping a thread.

A thread of the pool that waited might be the one that the awaited commit needs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from deltaq.tasks.errors import EngineUnavailable, QueueUnavailable, VersionNotReached
from deltaq.tasks.query import Query, encode_query, needed_versions
from deltaq.worker.lake import Lake
from deltaq.worker.ledger import log_entries, log_entry

logger = logging.getLogger(__name__)

#: Queries of one worker that may wait at once.
_ROOM = 1000
#: Seconds between two looks at the tables.
_LOOK = 0.05


@dataclass(frozen=True, kw_only=True)
class _Guest:
    query: Query
    deadline: float


class WaitingRoom:
    """Holds queries until their tables are far enough, and then has them asked again.

    Args:
        lake: Where the tables are.
        ask: Sends a query to the workers; may raise ``QueueUnavailable``.
        refuse: Tells a query's client that it waited in vain.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        ask: Callable[[str], None],
        refuse: Callable[[Query, VersionNotReached], None],
    ) -> None:
        self._lake = lake
        self._ask = ask
        self._refuse = refuse
        self._guests: dict[str, _Guest] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def holds(self, query: Query) -> bool:
        """Tell whether a query has to wait; it is then answered later.

        Raises:
            VersionNotReached: It may not wait, and the table is not far enough.
            EngineUnavailable: Too many queries wait here already.
        """
        behind = self._behind(query)
        if behind is None:
            return False
        seconds = getattr(query, "wait_seconds", 0.0)
        if seconds <= 0:
            raise behind
        with self._lock:
            if len(self._guests) >= _ROOM and query.request_id not in self._guests:
                raise EngineUnavailable(f"{_ROOM} reads wait for versions at this worker already")
            guest = _Guest(query=query, deadline=time.monotonic() + seconds)
            self._guests.setdefault(query.request_id, guest)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="deltaq-waiting-room", daemon=True
                )
                self._thread.start()
        return True

    def close(self) -> None:
        """Send those who still wait to the other workers, and end the thread."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        for guest in self._guests.values():
            try:
                self._ask(encode_query(guest.query))
            except QueueUnavailable as exc:  # its client asks again
                logger.warning("query %s: %s", guest.query.request_id, exc)

    def _run(self) -> None:
        while not self._closing.wait(_LOOK):
            with self._lock:
                guests = list(self._guests.values())
            for guest in guests:
                if self._is_served(guest):
                    with self._lock:
                        del self._guests[guest.query.request_id]

    def _is_served(self, guest: _Guest) -> bool:
        late = time.monotonic() >= guest.deadline
        try:
            behind = self._behind(guest.query)
            if behind is None:
                self._ask(encode_query(guest.query))
            elif late:
                self._refuse(guest.query, behind)
            return late or behind is None
        except Exception as exc:  # this thread must not end while queries wait
            # Redis or the lake may be back soon; after that the client asks again.
            logger.warning("query %s waits on: %s", guest.query.request_id, exc)
            return late

    def _behind(self, query: Query) -> VersionNotReached | None:
        for table, needed in needed_versions(query).items():
            path = self._lake.path(table)
            if log_entry(path, needed).is_file():  # the cheap look
                continue
            newest = next((int(entry.stem) for entry in log_entries(path)), None)
            if newest is None or newest < needed:
                reached = "is not there yet" if newest is None else f"is at version {newest}"
                waited = getattr(query, "wait_seconds", 0.0)
                return VersionNotReached(
                    f"table {table} {reached}, and did not come to version {needed} within "
                    f"{waited:g} s; read with a longer version_timeout=, or without min_version=",
                    table=table,
                    details={"newest": newest, "min_version": needed},
                )
        return None
