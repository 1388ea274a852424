"""The Celery messages of a client. Celery takes 0.3 s to import: not before the first."""

from __future__ import annotations

import logging
import threading
from typing import Any

import redis

from deltaq.tasks import keys
from deltaq.tasks.errors import QueueUnavailable
from deltaq.tasks.query import Query, encode_query
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings

logger = logging.getLogger(__name__)


class Sender:
    """Sends wake-ups and queries through one Celery app."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._app: Any = None

    def ring(self, table: str, lane: Lane) -> None:
        """Send a wake-up. That it fails is no error: the sweeper rings what was forgotten."""
        from deltaq.tasks.broker import ring

        try:
            ring(self._celery(), table, lane)
        except Exception as exc:  # the request is accepted, whatever the broker's trouble is
            logger.warning("wake-up for table %s was not sent: %s", table, exc)

    def ask(self, query: Query) -> None:
        """Send a query.

        Raises:
            QueueUnavailable: The broker did not take it.
        """
        from kombu.exceptions import KombuError

        try:
            self._celery().send_task(
                keys.READ_TASK,
                args=[encode_query(query)],
                queue=keys.READ_QUEUE,
                ignore_result=True,
                retry=False,
            )
        except (KombuError, redis.exceptions.RedisError, OSError) as exc:
            raise QueueUnavailable(
                f"the broker took no query: {exc}; check that it runs and that broker_url or "
                "redis_url is right"
            ) from exc

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
