"""The Celery messages of a client. Celery takes 0.3 s to import: not before the first."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from deltaq.tasks.errors import QueueUnavailable
from deltaq.tasks.query import Query, encode_query
from deltaq.tasks.request import Lane
from deltaq.tasks.signing import signer_of

if TYPE_CHECKING:  # see core.py
    from deltaq.tasks.settings import Settings

logger = logging.getLogger(__name__)


class Sender:
    """Sends wake-ups and queries through one Celery app."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signer = signer_of(settings)
        self._lock = threading.Lock()
        self._app: Any = None

    def ring(self, table: str, lane: Lane) -> None:
        """Send a wake-up. That it fails is no error: the sweeper rings what was forgotten."""
        from deltaq.tasks.broker import ring

        try:
            ring(self._celery(), table, lane)
        except QueueUnavailable as exc:
            logger.warning("wake-up for table %s was not sent: %s", table, exc)

    def prepare(self, backfill_id: str, numbers: Iterable[int]) -> None:
        """Send hints that parts are to be prepared; the sweeper gives those that are lost."""
        from deltaq.tasks.broker import hint

        try:
            for number in numbers:
                hint(self._celery(), backfill_id, number)
        except QueueUnavailable as exc:
            logger.warning("hints for backfill %s were not sent: %s", backfill_id, exc)

    def ask(self, query: Query) -> None:
        """Send a query.

        Raises:
            QueueUnavailable: The broker did not take it.
        """
        from deltaq.tasks.broker import ask

        ask(self._celery(), encode_query(query), self._signer)

    def close(self) -> None:
        """Close the connections to the broker."""
        with self._lock:
            if self._app is not None:
                self._app.close()
                self._app = None

    def _celery(self) -> Any:
        with self._lock:
            if self._app is None:
                from deltaq.tasks.broker import make_celery

                self._app = make_celery(self._settings)
            return self._app
