"""What ``deltaq flower`` does: runs Flower's server in this process, on our broker.

In this process, because what is handed to another one by arguments is seen by everybody.
"""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType

from flower.app import Flower
from flower.options import options
from flower.urls import settings as tornado_settings
from kombu.entity import Queue
from kombu.transport import redis as transport

from deltaq.tasks import keys
from deltaq.tasks.broker import make_celery
from deltaq.tasks.errors import ConfigurationError
from deltaq.tasks.settings import Settings
from deltaq.tasks.workers import REMEMBERED
from deltaq.worker.channel import Channel

logger = logging.getLogger(__name__)

#: What a task is, how it stands, and in kwargs its table, rows and lane.
_COLUMNS = "name,state,runtime,kwargs,result,exception,received,worker,uuid"


def run(settings: Settings, *, address: str, port: int, read_only: bool, max_tasks: int) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: The settings; ``flower_auth`` is set.
        address: Where to listen.
        port: Where to listen; 0 for any that is free.
        read_only: Only show.
        max_tasks: Tasks to keep in memory.

    Raises:
        ConfigurationError: It cannot listen there.
    """
    assert settings.flower_auth is not None
    # Celery's own also looks for messages to put back, which an account that only looks may not.
    transport.Transport.Channel = Channel
    app = make_celery(settings)
    with app.connection() as connection:
        app.conf.broker_use_ssl = connection.ssl  # its page about the broker looks for it there
    app.conf.task_queues = [Queue(name) for name in keys.QUEUES.values()]  # type: ignore[no-untyped-call]
    app.conf.task_default_queue = keys.QUEUES["commits"]
    options.basic_auth = [settings.flower_auth.get_secret_value()]
    options.address, options.port = address, port
    options.read_only = read_only
    options.max_tasks = max_tasks
    options.tasks_columns = _COLUMNS
    options.purge_offline_workers = int(REMEMBERED)
    server = Flower(capp=app, options=options, **tornado_settings)
    try:
        bound = server.start_http_server()
    except OSError as exc:
        raise ConfigurationError(
            f"Flower cannot listen on {address}, port {port}: {exc.strerror}; choose another "
            "--port or --address"
        ) from exc
    signal.signal(signal.SIGTERM, _end)
    logging.getLogger("tornado.access").setLevel(logging.WARNING)
    logger.info("Flower listens on http://%s:%d", address, bound)
    try:
        server.start()
    except (KeyboardInterrupt, SystemExit):
        logger.info("Flower ends")
    finally:
        server.stop()


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
