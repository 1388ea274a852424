"""Celery as both sides use it: as the carrier of hints.

A message may be lost, or come twice: the inbox is the truth and the sweeper rings again.
"""

from __future__ import annotations

from celery import Celery

from deltaq.tasks import keys
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings


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
        },
    )
    return app


def ring(app: Celery, table: str, lane: Lane) -> None:
    """Send a wake-up: a lane of a table has requests."""
    app.send_task(
        keys.COMMIT_TASK, args=[table], queue=keys.lane_queue(lane), ignore_result=True, retry=False
    )
