"""The worker process: a Celery app on a threads pool, with everything that commits behind it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from celery import Celery, bootsteps
from celery.exceptions import CPendingDeprecationWarning, WorkerShutdown
from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_ready, worker_shutdown, worker_shutting_down
from celery.worker import state
from kombu.transport import redis as transport

from deltaq.tasks import keys
from deltaq.tasks.broker import make_celery
from deltaq.tasks.errors import ConfigurationError, InvalidTableName
from deltaq.tasks.names import check_table_name
from deltaq.tasks.settings import Settings
from deltaq.worker.channel import Channel
from deltaq.worker.parts import Parts
from deltaq.worker.pool import WakingPool
from deltaq.worker.redis_check import check_redis
from deltaq.worker.s3_check import require_s3
from deltaq.worker.warm import WarmSpark, WarmState

logger = logging.getLogger(__name__)

#: How often a worker that waits for Spark looks whether it shall stop, seconds.
_POLL = 0.1


class Worker:
    """One worker: builds its parts, runs until a signal ends it, takes them down again.

    Args:
        settings: The settings.
        name: Celery node name; by default it is told from others by host and process id.

    Raises:
        ConfigurationError: Settings contradict each other, or what they name cannot be used.
    """

    def __init__(self, settings: Settings, *, name: str | None = None) -> None:
        _require_folders(settings)
        require_s3(settings)
        self.settings = settings
        self.name = name or f"deltaq-{os.getpid()}@{socket.gethostname()}"
        self.stopping = threading.Event()
        self.app = make_celery(settings)
        self.parts = Parts(settings, name=self.name, app=self.app, stopping=self.stopping)
        _configure(self.app)
        self._register_tasks()
        if self.parts.warm:
            step = _warm_step(self.parts.warm, wait=settings.engine == "spark")
            self.app.steps["worker"].add(step)

    @property
    def _queues(self) -> list[str]:
        return [keys.QUEUES[queue] for queue in self.settings.queues]

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT and return the process's exit code."""
        setup_logging.connect(_leave_logging_alone, weak=False)
        # Celery's concerns: about root it is pickle, which nobody accepts here; about a lost
        # connection it is messages that come again, which none does.
        warnings.simplefilter("ignore", SecurityWarning)
        warnings.simplefilter("ignore", CPendingDeprecationWarning)
        worker_shutting_down.connect(self._stop, weak=False)
        worker_ready.connect(self._ready, weak=False)
        worker_shutdown.connect(self._close, weak=False)
        celery_worker = self.app.Worker(
            hostname=self.name,
            pool=WakingPool,
            concurrency=self.settings.concurrency,
            queues=self._queues,
            optimization="fair",
            quiet=True,
            # Workers need not know each other: Redis knows. Saves a second at the start.
            without_gossip=True,
            without_mingle=True,
        )
        self.parts.monitor.start()
        self.parts.events.start()
        self.parts.revoker.listen()
        try:
            celery_worker.start()
        finally:
            self.parts.monitor.close()
        return int(celery_worker.exitcode or 0)

    def _register_tasks(self) -> None:
        committer, reader, backfills = self.parts.committer, self.parts.reader, self.parts.backfills

        # Their events are sent by ours, many at once: by Celery they would cost a third of what
        # the main loop does.
        @self.app.task(name=keys.COMMIT_TASK, send_events=False)  # type: ignore[untyped-decorator]
        def commit(table: str) -> None:
            try:
                check_table_name(table)
            except InvalidTableName as exc:
                logger.error("dropped a wake-up: %s", exc)
            else:
                committer.drain(table)

        @self.app.task(name=keys.READ_TASK, send_events=False)  # type: ignore[untyped-decorator]
        def read(query: str, signature: str | None = None) -> None:
            reader.answer(query, signature)

        @self.app.task(name=keys.PREPARE_TASK, send_events=False)  # type: ignore[untyped-decorator]
        def prepare(backfill_id: str, number: int) -> None:
            backfills.hint()

    def _ready(self, **_: Any) -> None:
        # Ctrl-C is an ordinary stop here; Celery would exit with 1.
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
        check_redis(self.parts.redis)
        self.parts.sweeper.start()
        self.parts.caretaker.start()
        self.parts.monitor.health.serving.set()
        logger.info("%s serves %s", self.name, ", ".join(self.settings.queues))

    def _stop(self, **_: Any) -> None:
        if not self.stopping.is_set():
            self.stopping.set()
            self.parts.emergency.arm()

    def _close(self, **_: Any) -> None:
        # Not earlier: running tasks are awaited before this signal.
        self.parts.close()


def _require_folders(settings: Settings) -> None:
    """Refuse a lake or staging area that no waiting will make usable: a file is in its place."""
    for name, folder in (("lake", settings.lake), ("staging", settings.staging_root)):
        if not isinstance(folder, Path):
            continue
        in_the_way = next((f for f in (folder, *folder.parents) if f.is_file()), None)
        if in_the_way is not None:
            raise ConfigurationError(
                f"{name}={folder}: {in_the_way} is a file; name a folder, or move the file away",
                details={"settings": [name]},
            )


def _configure(app: Celery) -> None:
    transport.Transport.Channel = Channel
    app.conf.update(
        # An early acknowledgement may lose a wake-up; a late one makes Celery run a task twice at
        # once after a lost connection.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_send_task_events=True,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )


def _leave_logging_alone(**_: Any) -> None:
    """Being connected is enough: Celery then sets up no logging of its own."""


def _warm_step(warm: WarmSpark, *, wait: bool) -> type[bootsteps.StartStopStep]:
    class WarmEngine(bootsteps.StartStopStep):  # type: ignore[misc]
        """Starts Spark before the consumer, which is the last step, connects to the broker."""

        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            warm.start()
            while wait and warm.state is WarmState.STARTING:
                # SIGTERM sets should_stop to 0, so None is what means "go on".
                if state.should_stop is not None:
                    warm.stop()
                    raise WorkerShutdown(0)
                time.sleep(_POLL)
            if warm.error is not None:
                raise warm.error

    return WarmEngine
