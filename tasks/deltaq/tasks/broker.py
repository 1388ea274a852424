"""Celery as both sides use it: as the carrier of hints.

A message may be lost, or come twice: the inbox is the truth and the sweeper rings again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from celery import Celery
from kombu.exceptions import KombuError

from deltaq.tasks import keys
from deltaq.tasks.errors import QueueUnavailable
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings
from deltaq.tasks.signing import Signer


def make_celery(settings: Settings) -> Celery:
    """Make a Celery app for the broker; nothing is connected yet."""
    app = Celery("deltaq", broker=settings.celery_broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        task_ignore_result=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "priority_steps": [0],
            "socket_keepalive": True,
            # Without it a publish to a stopped Redis hangs for ever.
            "socket_timeout": settings.redis_timeout,
            "socket_connect_timeout": settings.redis_timeout,
            "health_check_interval": 10,
            # A message is a hint: who sends it must not wait six seconds for a broker that is down.
            "max_retries": 0,
        },
    )
    return app


@contextmanager
def broker_errors() -> Iterator[None]:
    """Translate errors of the broker.

    Raises:
        QueueUnavailable: It cannot be reached or does not answer.
    """
    try:
        yield
    except (KombuError, redis.exceptions.RedisError, OSError) as exc:
        raise QueueUnavailable(
            f"the broker does not answer: {exc}; check that it runs and that broker_url or "
            "redis_url is right"
        ) from exc


def ring(app: Celery, table: str, lane: Lane) -> None:
    """Send a wake-up: a lane of a table has requests.

    Raises:
        QueueUnavailable: The broker did not take it; the sweeper will ring.
    """
    with broker_errors():
        app.send_task(
            keys.COMMIT_TASK,
            args=[table],
            queue=keys.lane_queue(lane),
            ignore_result=True,
            retry=False,
        )


def hint(app: Celery, backfill_id: str, number: int) -> None:
    """Send a hint: a part of a backfill may be prepared.

    Raises:
        QueueUnavailable: The broker did not take it; a worker will find the part.
    """
    with broker_errors():
        app.send_task(
            keys.PREPARE_TASK,
            args=[backfill_id, number],
            queue=keys.lane_queue(Lane.BULK),
            ignore_result=True,
            retry=False,
        )


def ask(app: Celery, query: str, signer: Signer | None = None) -> None:
    """Send a query, as ``encode_query`` writes it, signed where workers ask for that.

    Raises:
        QueueUnavailable: The broker did not take it.
    """
    args = [query] if signer is None else [query, signer.query_signature(query)]
    with broker_errors():
        app.send_task(
            keys.READ_TASK,
            args=args,
            queue=keys.READ_QUEUE,
            ignore_result=True,
            retry=False,
        )


def count_rung(app: Celery, lane: Lane) -> int:
    """Count the wake-ups of a lane, of all tables, that no worker has taken yet.

    Raises:
        QueueUnavailable: The broker did not answer.
    """
    with broker_errors(), app.connection_or_acquire() as connection:
        queue = connection.default_channel.queue_declare(keys.lane_queue(lane))
        return int(queue.message_count)
