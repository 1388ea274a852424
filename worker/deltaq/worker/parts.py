"""The parts of one worker, put together: what commits, reads, sweeps, prepares and looks on."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import redis
from celery import Celery

from deltaq.tasks import keys
from deltaq.tasks.broker import ask, count_rung, ring
from deltaq.tasks.connection import connect
from deltaq.tasks.errors import QueueUnavailable
from deltaq.tasks.inbox import LANES, Inbox
from deltaq.tasks.memory import Memory
from deltaq.tasks.policy import default_policy
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings
from deltaq.tasks.signing import Signer, signer_of
from deltaq.tasks.staging import StagingArea
from deltaq.worker.backfill.service import Backfills
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
from deltaq.worker.reads import Reader
from deltaq.worker.recovery import Recovery
from deltaq.worker.remover import Remover
from deltaq.worker.revoking import Revoker
from deltaq.worker.router import Router
from deltaq.worker.signatures import Signatures
from deltaq.worker.stopping import Emergency
from deltaq.worker.sweeper import Sweeper
from deltaq.worker.warm import WarmSpark

if TYPE_CHECKING:  # OpenTelemetry is an extra
    from deltaq.worker.tracing import Tracing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Stores:
    """Where everything is that outlives the worker, and who may ask for it."""

    redis: redis.Redis
    inbox: Inbox
    lake: Lake
    staging: StagingArea
    signer: Signer | None

    @classmethod
    def of(cls, settings: Settings) -> _Stores:
        client = connect(settings)
        return cls(
            redis=client,
            inbox=Inbox(client, settings),
            lake=Lake(settings.lake),
            staging=StagingArea(settings.staging_root),
            signer=signer_of(settings),
        )


class Parts:
    """All that is behind the Celery app of one worker. Nothing runs before it is started.

    Args:
        settings: The settings.
        name: Of the worker.
        app: Carries wake-ups and events.
        stopping: Set when the worker shall end.
    """

    def __init__(
        self, settings: Settings, *, name: str, app: Celery, stopping: threading.Event
    ) -> None:
        self._settings, self._name, self._app, self._stopping = settings, name, app, stopping
        self._stores = stores = _Stores.of(settings)
        self.warm = WarmSpark(settings, on_ready=self._hurry) if settings.spark == "on" else None
        self.events = Events(app, settings, name=name)
        self.monitor = self._make_monitor()
        self.commit_log = CommitLog()
        self.tracing = _tracing(settings)
        self.open_reads = OpenReads(stores.redis, stores.lake)
        native = self._make_native()
        self.caretaker = self._make_caretaker(native)
        self.observers = self._make_observers()
        self.leases = Leases(stores.redis, settings, holder=name, observers=self.observers)
        self._router = self._make_router(native)
        memory = Memory(stores.redis, settings)
        self._recovery = Recovery(memory, stores.inbox, stores.staging, stores.lake, settings)
        self.revoker = Revoker(stores.inbox, stores.staging)
        self.emergency = self._make_emergency()
        self.backfills = self._make_backfills()
        self.sweeper = self._make_sweeper()
        self.reader = self._make_reader()
        self.remover = Remover(stores.staging)
        self.committer = self._make_committer()

    @property
    def redis(self) -> redis.Redis:
        """Connections to the queue's Redis."""
        return self._stores.redis

    def close(self) -> None:
        """End everything but the pages; no task may run any more."""
        self.reader.close()
        self.open_reads.close()
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

    def _ring(self, table: str, lane: Lane) -> None:
        try:
            ring(self._app, table, lane)
        except QueueUnavailable as exc:
            logger.warning("wake-up for table %s not sent: %s; the sweeper will", table, exc)

    def _hurry(self) -> None:
        self.sweeper.hurry()

    def _make_monitor(self) -> Monitor:
        return Monitor(
            self._settings,
            name=self._name,
            warm=self.warm,
            stopping=self._stopping,
            left_out=lambda: self.events.left_out,
        )

    def _make_native(self) -> NativeEngine:
        stores, policy = self._stores, default_policy(self._settings)
        return NativeEngine(stores.lake, stores.staging, policy=policy)

    def _make_caretaker(self, native: NativeEngine) -> Caretaker:
        return Caretaker(
            native,
            self._stores.inbox,
            self._settings,
            ring=self._ring,
            open_reads=self.open_reads,
        )

    def _make_observers(self) -> Observers:
        return Observers(
            [
                self.commit_log,
                *self.tracing,
                *self.monitor.observers,
                self.events,
                self.caretaker,
            ]
        )

    def _make_router(self, native: NativeEngine) -> Router:
        stores = self._stores
        return Router(
            open_reads=self.open_reads,
            native=None if self._settings.engine == "spark" else native,
            spark=SparkEngine(self.warm, stores.lake, stores.staging) if self.warm else None,
            settings=self._settings,
        )

    def _make_emergency(self) -> Emergency:
        return Emergency(
            leases=self.leases,
            inbox=self._stores.inbox,
            warm=self.warm,
            limit=self._settings.stop_timeout,
            farewell=self.monitor.heartbeat.close,
        )

    def _make_backfills(self) -> Backfills:
        return Backfills(
            self._stores.redis,
            self._stores.inbox,
            self._settings,
            worker=self._name,
            ring=self._ring,
            warm=self.warm,
            observer=self.observers,
        )

    def _make_sweeper(self) -> Sweeper:
        return Sweeper(
            self._stores.redis,
            self._stores.inbox,
            self._stores.staging,
            self._settings,
            ring=self._ring,
            rung=partial(count_rung, self._app),
            recovery=self._recovery,
            backfills=self.backfills,
        )

    def _make_reader(self) -> Reader:
        stores = self._stores
        return Reader(
            router=self._router,
            lake=stores.lake,
            staging=stores.staging,
            inbox=stores.inbox,
            ask=partial(ask, self._app, signer=stores.signer),
            signer=stores.signer,
            keep=self._settings.read_ttl,
            observers=self.observers,
        )

    def _make_committer(self) -> Committer:
        stores, settings = self._stores, self._settings
        inbox, staging, signer = stores.inbox, stores.staging, stores.signer
        served = {keys.QUEUES[queue] for queue in settings.queues}
        return Committer(
            inbox=inbox,
            leases=self.leases,
            router=self._router,
            lake=stores.lake,
            settlement=Settlement(inbox, staging, self.remover, observers=self.observers),
            signatures=None if signer is None else Signatures(signer, staging),
            recovery=self._recovery,
            settings=settings,
            lanes=tuple(lane for lane in LANES if keys.lane_queue(lane) in served),
            ring=self._ring,
            stopping=self._stopping,
            observers=self.observers,
        )


def _tracing(settings: Settings) -> list[Tracing]:
    if not settings.tracing:
        return []
    from deltaq.worker.tracing import set_up_tracing

    return [set_up_tracing()]
