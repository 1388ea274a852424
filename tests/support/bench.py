"""A committer on a real Redis and real tables, without a worker process around it."""

from __future__ import annotations

import threading

from deltaq.tasks.connection import connect
from deltaq.tasks.inbox import LANES, Inbox
from deltaq.tasks.memory import Memory
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings
from deltaq.tasks.signing import signer_of
from deltaq.tasks.staging import StagingArea
from deltaq.worker.committer import Committer
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.groups import CommitGroup
from deltaq.worker.lake import Lake
from deltaq.worker.lease import Leases
from deltaq.worker.maintenance.open_reads import OpenReads
from deltaq.worker.observers import NOBODY, Observer
from deltaq.worker.outcomes import Settlement
from deltaq.worker.recovery import Recovery
from deltaq.worker.remover import Remover
from deltaq.worker.router import Performed, Router
from deltaq.worker.signatures import Signatures
from deltaq.worker.warm import WarmSpark


class BrokenRouter(Router):
    """A real router that fails as told before it goes on."""

    def __init__(self, failures: list[Exception], **arguments: object) -> None:
        super().__init__(**arguments)  # type: ignore[arg-type]
        self.failures = failures
        self.applied: list[CommitGroup] = []
        #: Id of a request that no group with it survives.
        self.poison = ""
        #: Raised once, after a commit.
        self.then_raise: Exception | None = None

    def apply(self, group: CommitGroup) -> Performed:
        if self.failures:
            raise self.failures.pop(0)
        self.applied.append(group)
        if any(r.request_id == self.poison for r in group.requests):
            raise ZeroDivisionError(f"of request {self.poison}")
        performed = super().apply(group)
        error, self.then_raise = self.then_raise, None
        if error:
            raise error
        return performed


class Bench:
    """A committer and what it works on."""

    def __init__(
        self, settings: Settings, *, observers: Observer = NOBODY, warm: WarmSpark | None = None
    ) -> None:
        self.redis = connect(settings)
        self.settings = settings
        self.inbox = Inbox(self.redis, settings)
        self.leases = Leases(self.redis, settings, holder="test", observers=observers)
        self.staging = StagingArea(settings.staging_root)
        self.remover = Remover(self.staging)
        self.failures: list[Exception] = []
        self.rung: list[tuple[str, Lane]] = []
        self.stopping = threading.Event()
        lake = Lake(settings.lake)
        self.recovery = Recovery(
            Memory(self.redis, settings), self.inbox, self.staging, lake, settings
        )
        self.open_reads = OpenReads(self.redis, lake)
        self.router = BrokenRouter(
            self.failures,
            open_reads=self.open_reads,
            native=None if warm else NativeEngine(lake, self.staging),
            spark=SparkEngine(warm, lake, self.staging) if warm else None,
            settings=settings,
        )
        signer = signer_of(settings)
        self.committer = Committer(
            inbox=self.inbox,
            leases=self.leases,
            router=self.router,
            lake=lake,
            settlement=Settlement(self.inbox, self.staging, self.remover, observers=observers),
            signatures=None if signer is None else Signatures(signer, self.staging),
            recovery=self.recovery,
            settings=settings,
            lanes=LANES,
            ring=lambda table, lane: self.rung.append((table, lane)),
            stopping=self.stopping,
            observers=observers,
        )

    def close(self) -> None:
        self.remover.close()  # what a test then finds is left over
        self.leases.close()
        self.open_reads.close()
        self.redis.close()
