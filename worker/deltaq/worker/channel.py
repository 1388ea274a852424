"""Celery's connection to the broker, in the ways in which a worker needs it otherwise."""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import redis as transport
from kombu.transport import virtual
from kombu.utils.json import dumps

logger = logging.getLogger(__name__)


class Channel(transport.Channel):
    """Takes messages for good: wake-ups may be lost, workers may not.

    kombu's own channel writes each message to Redis again until it is acknowledged, which takes
    longer than taking a lease. And 5.7 puts messages back when a connection is lost, through one
    that it has closed before, and the error ends Celery's worker.

    Attributes:
        heard: How many took the last message of those that go to all who listen.
    """

    QoS = virtual.QoS  # type: ignore[assignment]  # counts, in memory
    do_restore = False
    heard = 0

    def close(self) -> None:
        """Close at once: kombu would wait up to a second for one more message, and lose it."""
        connection: Any = self._in_poll
        if connection:
            connection.disconnect()
            self._in_poll = False
        super().close()  # type: ignore[no-untyped-call]

    def _brpop_read(self, **options: Any) -> Any:
        """Take one message; drop what is none, which would end Celery's worker."""
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, LookupError, AttributeError) as exc:
            logger.error("dropped a message that is none: %s: %s", type(exc).__name__, exc)
            return True

    def _put_fanout(self, exchange: str, message: Any, routing_key: str, **options: Any) -> None:
        """Send a message to all who listen, and note how many did; kombu drops the number."""
        topic = self._get_publish_topic(exchange, routing_key)  # type: ignore[no-untyped-call]
        with self.conn_or_acquire() as client:
            self.heard = client.publish(topic, dumps(message))  # type: ignore[no-untyped-call]
