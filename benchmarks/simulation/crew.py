"""Simulated workers, many in one process."""

from __future__ import annotations

import base64
import json
import random
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from celery import Celery

from deltaq.tasks import keys
from deltaq.tasks.broker import count_rung, make_celery, ring
from deltaq.tasks.connection import connect
from deltaq.tasks.inbox import LANES, Inbox
from deltaq.tasks.memory import Memory
from deltaq.tasks.request import Lane, Request
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.backfill.service import Backfills
from deltaq.worker.committer import Committer
from deltaq.worker.engines import Commit, RowCounts
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.groups import CommitGroup
from deltaq.worker.health import Health, Heartbeat
from deltaq.worker.lake import Lake
from deltaq.worker.lease import Leases
from deltaq.worker.outcomes import Settlement
from deltaq.worker.recovery import Recovery
from deltaq.worker.remover import Remover
from deltaq.worker.router import Router
from deltaq.worker.sweeper import Sweeper

#: Bytes of a thread's stack: there are thousands, and none goes deep.
_STACK = 256 * 1024
#: Seconds after which a thread that waits for Python's lock asks for it; of thousands that ask as
#: often as usual, each 5 ms, a machine is busy with nothing else.
_SWITCH = 0.1
#: Seconds for which kombu waits for a message before it asks again.
_BRPOP = 1


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What the workers of one process are to do.

    Attributes:
        lake: Where tables would be.
        redis_url: Where Redis is.
        names: Of the workers.
        killed: How many of them die when they are told to.
        concurrency: Commits that each makes at once.
        commit_seconds: How long one takes, in the mean.
    """

    lake: Path
    redis_url: str
    names: tuple[str, ...]
    killed: int
    concurrency: int
    commit_seconds: float


class Killed(BaseException):
    """Ends a thread as the death of its process would: nothing is released or told."""


class Delay(NativeEngine):
    """An engine that waits in place of committing, and remembers how far each table is.

    Args:
        reached: The ledger of each table, shared by all workers; 0 before its first commit.
        seconds: How long a commit takes, in the mean.
        misplaced: Told of a group that does not follow the one before it.
    """

    def __init__(
        self, reached: Any, seconds: float, misplaced: Callable[[CommitGroup], None]
    ) -> None:
        #: Set when its worker is killed.
        self.dead = threading.Event()
        self._reached = reached
        self._seconds = seconds
        self._misplaced = misplaced

    def ledger(self, table: str, app_id: str) -> int:
        """Tell the last committed sequence."""
        return self._reached[number_of(table)] or -1

    def apply(self, group: CommitGroup) -> Commit:
        """Wait, and move the ledger."""
        if self.dead.wait(self._seconds * random.uniform(0.5, 1.5)):
            raise Killed
        number = number_of(group.table)
        if group.members[0].sequence != self._reached[number] + 1:
            self._misplaced(group)
        self._reached[number] = group.sequence
        counts = tuple(RowCounts() for _ in group.members)
        return Commit(version=group.sequence, counts=counts)

    def tidy(self, table: str) -> None:
        """Leave nothing behind."""


class _NoFiles(Remover):
    """Removes nothing, as nothing was staged."""

    def remove(self, requests: Sequence[Request]) -> None:
        """Let them be."""


class SimulatedWorker:
    """One worker without a process of its own: its threads are real, its engine is a delay."""

    def __init__(self, name: str, settings: Settings, app: Celery, engine: Delay) -> None:
        self._settings = settings
        self._redis = client = connect(settings)
        self._dead = engine.dead
        self._ring: Callable[[str, Lane], None] = partial(ring, app)
        self._inbox, self._lake = Inbox(client, settings), Lake(settings.lake)
        self._staging = StagingArea(settings.staging_root)
        memory = Memory(client, settings)
        self._recovery = Recovery(memory, self._inbox, self._staging, self._lake, settings)
        self._leases = Leases(client, settings, holder=name)
        self._committer = self._make_committer(engine)
        self._sweeper = self._make_sweeper(name, app)
        health = Health(settings, name=name, warm=None, stopping=threading.Event())
        self._heartbeat = Heartbeat(settings, health)
        self._free = threading.Semaphore(settings.concurrency)
        self._slots = ThreadPoolExecutor(settings.concurrency)
        self._consumer = threading.Thread(target=self._consume, daemon=True)

    def _make_committer(self, engine: Delay) -> Committer:
        staging = self._staging
        return Committer(
            inbox=self._inbox,
            leases=self._leases,
            router=Router(native=engine, spark=None, settings=self._settings),
            lake=self._lake,
            settlement=Settlement(self._inbox, staging, _NoFiles(staging)),
            recovery=self._recovery,
            settings=self._settings,
            lanes=LANES,
            ring=self._ring,
            stopping=threading.Event(),
        )

    def _make_sweeper(self, name: str, app: Celery) -> Sweeper:
        client, inbox, settings = self._redis, self._inbox, self._settings
        return Sweeper(
            client,
            inbox,
            self._staging,
            settings,
            ring=self._ring,
            rung=partial(count_rung, app),
            recovery=self._recovery,
            backfills=Backfills(client, inbox, settings, worker=name, ring=self._ring),
        )

    def start(self) -> None:
        """Serve."""
        self._sweeper.start()
        self._heartbeat.start()
        self._consumer.start()

    def die(self) -> None:
        """End without a word. Its sweeper goes on, of which one in all has its turn."""
        self._dead.set()
        self._leases.close()

    def end(self) -> None:
        """Take no more wake-ups; the threads that sleep end with the process."""
        self._dead.set()
        self._consumer.join()
        self._slots.shutdown()

    def _consume(self) -> None:
        queues = [keys.QUEUES[queue] for queue in self._settings.queues]
        while not self._dead.is_set():
            self._free.acquire()
            taken: Any = self._redis.brpop(queues, timeout=_BRPOP)
            if taken is None or self._dead.is_set():
                self._free.release()
            else:
                self._slots.submit(self._commit, _table_of(taken[1]))

    def _commit(self, table: str) -> None:
        try:
            self._committer.drain(table)
        finally:
            self._free.release()


def serve(
    orders: Orders, reached: Any, ready: Barrier, kill: Event, stop: Event, told: Any
) -> None:
    """Run the workers of one process until told to stop; put the groups out of place into a queue.

    Args:
        orders: What to do.
        reached: The ledgers of all tables.
        ready: Waits until all are there.
        kill: Set when some of them are to die.
        stop: Set when all are to end.
        told: Hears how many groups did not follow the one before.
    """
    threading.stack_size(_STACK)
    sys.setswitchinterval(_SWITCH)
    misplaced: list[CommitGroup] = []
    try:
        workers = _start(orders, reached, misplaced.append)
    except BaseException:
        ready.abort()  # nobody shall wait for what does not come
        raise
    ready.wait()
    kill.wait()
    for worker in workers[: orders.killed]:
        worker.die()
    stop.wait()
    for worker in workers:
        worker.end()
    told.put(len(misplaced))


def _start(
    orders: Orders, reached: Any, misplaced: Callable[[CommitGroup], None]
) -> list[SimulatedWorker]:
    settings = load_settings(
        lake=orders.lake,
        redis_url=orders.redis_url,
        spark="off",
        concurrency=orders.concurrency,
    )
    app = make_celery(settings)
    workers = [
        SimulatedWorker(name, settings, app, Delay(reached, orders.commit_seconds, misplaced))
        for name in orders.names
    ]
    for worker in workers:
        worker.start()
    return workers


def table_name(number: int) -> str:
    """Name a table by its number."""
    return f"t{number}"


def number_of(table: str) -> int:
    """Tell the number of a table."""
    return int(table[1:])


def _table_of(message: str) -> str:
    """Read a wake-up as kombu wrote it."""
    args, _, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
    return str(args[0])
