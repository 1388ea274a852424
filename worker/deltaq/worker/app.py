"""The worker process: a Celery app on a threads pool, with everything that commits behind it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import Celery, bootsteps
from celery.exceptions import CPendingDeprecationWarning, WorkerShutdown
from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_ready, worker_shutdown, worker_shutting_down
from celery.worker import state
from kombu.transport import redis as transport

from deltaq.tasks import keys
from deltaq.tasks.broker import ask, count_rung, make_celery, ring
from deltaq.tasks.connection import connect
from deltaq.tasks.errors import InvalidTableName, QueueUnavailable
from deltaq.tasks.inbox import LANES, Inbox
from deltaq.tasks.memory import Memory
from deltaq.tasks.policy import default_policy
from deltaq.tasks.request import Lane, check_table_name
from deltaq.tasks.settings import Settings
from deltaq.tasks.signing import signer_of
from deltaq.tasks.staging import StagingArea
from deltaq.worker.backfill.service import Backfills
from deltaq.worker.channel import Channel
from deltaq.worker.commit_log import CommitLog
from deltaq.worker.committer import Committer
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.events import Events
from deltaq.worker.lake import Lake
from deltaq.worker.lease import Leases
from deltaq.worker.maintenance.caretaker import Caretaker
from deltaq.worker.maintenance.open_reads import OpenReads
from deltaq.worker.monitor import Monitor
from deltaq.worker.observers import Observers
from deltaq.worker.outcomes import Settlement
from deltaq.worker.pool import WakingPool
from deltaq.worker.reads import Reader
from deltaq.worker.recovery import Recovery
from deltaq.worker.redis_check import check_redis
from deltaq.worker.remover import Remover
from deltaq.worker.revoking import Revoker
from deltaq.worker.router import Router
from deltaq.worker.signatures import Signatures
from deltaq.worker.stopping import Emergency
from deltaq.worker.sweeper import Sweeper
from deltaq.worker.warm import WarmSpark, WarmState

if TYPE_CHECKING:  # OpenTelemetry is an extra
    from deltaq.worker.tracing import Tracing

logger = logging.getLogger(__name__)

#: How often a worker that waits for Spark looks whether it shall stop, seconds.
_POLL = 0.1


class Worker:
    """One worker: builds its parts, runs until a signal ends it, takes them down again.

    Args:
        settings: The settings.
        name: Celery node name; by default it is told from others by host and process id.
    """

    def __init__(self, settings: Settings, *, name: str | None = None) -> None:
        self.settings = settings
        self.name = name or f"deltaq-{os.getpid()}@{socket.gethostname()}"
        self.stopping = threading.Event()
        self.app = make_celery(settings)
        self.warm = (
            WarmSpark(settings, on_ready=self._spark_is_warm) if settings.spark == "on" else None
        )
        self.monitor = Monitor(settings, name=self.name, warm=self.warm, stopping=self.stopping)
        self._redis = client = connect(settings)
        lake = Lake(settings.lake)
        staging = StagingArea(settings.staging_root)
        inbox = Inbox(client, settings)
        signer = signer_of(settings)
        native = (
            None
            if settings.engine == "spark"
            else NativeEngine(lake, staging, policy=default_policy(settings))
        )
        self.open_reads = OpenReads(client, lake)
        router = Router(
            open_reads=self.open_reads,
            native=native,
            spark=SparkEngine(self.warm, lake, staging) if self.warm else None,
            settings=settings,
        )
        self.commit_log = CommitLog()
        self.events = Events(self.app, settings, name=self.name)
        self.revoker = Revoker(inbox, staging)
        self.caretaker = Caretaker(native, inbox, settings, ring=self._ring) if native else None
        self.tracing = _tracing(settings)
        self.observers = Observers(
            [
                self.commit_log,
                *self.tracing,
                *self.monitor.observers,
                self.events,
                *([self.caretaker] if self.caretaker else []),
            ]
        )
        self.leases = Leases(client, settings, holder=self.name, observers=self.observers)
        recovery = Recovery(Memory(client, settings), inbox, staging, lake, settings)
        self.emergency = Emergency(
            leases=self.leases,
            inbox=inbox,
            warm=self.warm,
            limit=settings.stop_timeout,
            farewell=self.monitor.heartbeat.close,
        )
        self.backfills = Backfills(
            client,
            inbox,
            settings,
            worker=self.name,
            ring=self._ring,
            warm=self.warm,
            observer=self.observers,
        )
        self.sweeper = Sweeper(
            client,
            inbox,
            staging,
            settings,
            ring=self._ring,
            rung=partial(count_rung, self.app),
            recovery=recovery,
            backfills=self.backfills,
        )
        self.reader = Reader(
            router=router,
            lake=lake,
            staging=staging,
            inbox=inbox,
            ask=partial(ask, self.app, signer=signer),
            signer=signer,
            keep=settings.read_ttl,
            observers=self.observers,
        )
        self.remover = Remover(staging)
        self.committer = Committer(
            inbox=inbox,
            leases=self.leases,
            router=router,
            lake=lake,
            settlement=Settlement(inbox, staging, self.remover, observers=self.observers),
            signatures=None if signer is None else Signatures(signer, staging),
            recovery=recovery,
            settings=settings,
            lanes=tuple(ln for ln in LANES if keys.lane_queue(ln) in self._queues),
            ring=self._ring,
            stopping=self.stopping,
            observers=self.observers,
        )
        _configure(self.app)
        self._register_tasks()
        if self.warm:
            step = _warm_step(self.warm, wait=settings.engine == "spark")
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
        self.monitor.start()
        self.events.start()
        self.revoker.listen()
        try:
            celery_worker.start()
        finally:
            self.monitor.close()
        return int(celery_worker.exitcode or 0)

    def _register_tasks(self) -> None:
        committer, reader, backfills = self.committer, self.reader, self.backfills

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

    def _ring(self, table: str, lane: Lane) -> None:
        try:
            ring(self.app, table, lane)
        except QueueUnavailable as exc:
            logger.warning("wake-up for table %s not sent: %s; the sweeper will", table, exc)

    def _spark_is_warm(self) -> None:
        self.sweeper.hurry()

    def _ready(self, **_: Any) -> None:
        # Ctrl-C is an ordinary stop here; Celery would exit with 1.
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
        check_redis(self._redis)
        self.sweeper.start()
        if self.caretaker:
            self.caretaker.start()
        self.monitor.health.serving.set()
        logger.info("%s serves %s", self.name, ", ".join(self.settings.queues))

    def _stop(self, **_: Any) -> None:
        if not self.stopping.is_set():
            self.stopping.set()
            self.emergency.arm()

    def _close(self, **_: Any) -> None:
        # Not earlier: running tasks are awaited before this signal.
        self.reader.close()
        self.open_reads.close()
        if self.caretaker:
            self.caretaker.close()
        self.sweeper.close()
        self.backfills.close()
        self.remover.close()
        self.revoker.close()
        self.events.close()
        self.commit_log.close()
        for tracing in self.tracing:
            tracing.close()
        self.leases.close()
        if self.warm:
            self.warm.stop()


def _tracing(settings: Settings) -> list[Tracing]:
    if not settings.tracing:
        return []
    from deltaq.worker.tracing import set_up_tracing

    return [set_up_tracing()]


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
