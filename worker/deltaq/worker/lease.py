"""The lease: which worker may commit to a table.

A lease keeps workers out of each other's way; it does not protect the table. A holder that was
stopped may wake up after its time and commit: the ledger inside the table is the fence.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import redis

from deltaq.tasks import keys
from deltaq.tasks.connection import Scripts
from deltaq.tasks.errors import DeltaqError, LeaseLost
from deltaq.tasks.inbox import LANES
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings
from deltaq.worker.groups import Claims
from deltaq.worker.observers import NOBODY, Observer

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Lease:
    """A lease that was taken.

    Attributes:
        table: What it is for.
        token: Proof of it, compared by every script that acts under it.
        fence: Grows with each lease of the table.
        epoch: Life of the table's sequence counters; empty while Redis may have forgotten
            something of the table.
        claims: What is known of the claims in each lane when the lease is taken.
        expires: When it ends unless renewed, ``time.monotonic()``.
        lost: Set when it was not renewed in time.
        on_loss: Called then, by the thread that renews: ends the work that has become vain.
    """

    table: str
    token: str
    fence: int
    epoch: str
    expires: float
    claims: dict[Lane, Claims] = field(default_factory=dict)
    lost: threading.Event = field(default_factory=threading.Event)
    on_loss: Callable[[], None] = lambda: None


class Leases:
    """Takes, renews and releases the leases of one worker. Close it to end its thread."""

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        *,
        holder: str,
        observers: Observer = NOBODY,
    ) -> None:
        self._scripts = Scripts(client)
        self._ttl = settings.lease_ttl
        self._holder = holder
        self._observers = observers
        self._held: set[Lease] = set()
        #: Those that are being given back: Redis may not know them any more.
        self._leaving: set[Lease] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        # Its own thread: Celery's timers stop while running tasks are awaited at shutdown.
        self._thread = threading.Thread(target=self._renew, name="deltaq-leases", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def take(self, table: str) -> Iterator[Lease | None]:
        """Take a table's lease and renew it until the block ends; None if another has it.

        The block itself releases the lease, by :meth:`release`; if it does not get so far,
        the lease ends by its time.
        """
        token = secrets.token_hex(16)
        began = time.monotonic()
        fence, epoch, left_by, *claims = self._scripts.run(
            "take",
            [keys.lease(table), keys.seq(table), keys.wake(table)],
            [token, int(self._ttl * 1000), self._holder, *LANES],
        )
        if not fence:
            yield None
            return
        lease = Lease(
            table=table,
            token=token,
            fence=fence,
            epoch=epoch,
            expires=began + self._ttl,
            claims=dict(zip(LANES, _claims(claims), strict=True)),
        )
        with self._lock:
            self._held.add(lease)
        if left_by:
            logger.warning("lease of table %s is taken over from %s", table, left_by)
            self._observers.lease_taken_over(table, left_by=left_by)
        try:
            yield lease
        except LeaseLost:
            lease.lost.set()
            raise
        finally:
            with self._lock:
                self._held.discard(lease)
            if lease.lost.is_set():
                self._observers.lease_lost(table)

    def release(
        self, lease: Lease, *, lanes: tuple[Lane, ...], force: bool
    ) -> tuple[bool, list[Lane]]:
        """Give a lease back if the lanes that the holder serves are empty, or by force.

        Returns:
            Whether it was released, and the lanes in which requests wait.

        Raises:
            LeaseLost: It was not ours any more.
        """
        table = lease.table
        order = (*lanes, *(lane for lane in LANES if lane not in lanes))
        with self._leaves(lease):
            answer, *waiting = self._scripts.run(
                "release",
                [
                    keys.lease(table),
                    keys.wake(table),
                    keys.TABLES,
                    keys.seq(table),
                    *(keys.inbox(table, lane) for lane in order),
                ],
                [lease.token, table, int(force), len(lanes), *order],
            )
            if answer == "released":
                with self._lock:
                    self._held.discard(lease)
        if answer == "lost":
            raise LeaseLost(f"the lease of table {table} went to another worker", table=table)
        return answer == "released", [Lane(lane) for lane in waiting]

    @contextlib.contextmanager
    def _leaves(self, lease: Lease) -> Iterator[None]:
        """Have a renewal that comes too late not take a lease for lost."""
        with self._lock:
            self._leaving.add(lease)
        try:
            yield
        finally:
            with self._lock:
                self._leaving.discard(lease)

    def held(self) -> list[Lease]:
        """List the leases that were taken and neither given back nor left."""
        with self._lock:
            return list(self._held)

    def close(self) -> None:
        """End the thread; leases still held end by their time."""
        self._closing.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._closing.wait(self._ttl / 3):
            for lease in self.held():
                self._renew_one(lease)

    def _renew_one(self, lease: Lease) -> None:
        began = time.monotonic()
        try:
            kept = self._scripts.run(
                "renew", [keys.lease(lease.table)], [lease.token, int(self._ttl * 1000)]
            )
        except DeltaqError as exc:
            logger.warning("lease of table %s was not renewed: %s", lease.table, exc)
            kept = time.monotonic() < lease.expires
        else:
            lease.expires = began + self._ttl
        with self._lock:
            given_back = lease not in self._held or lease in self._leaving
            if kept or given_back or lease.lost.is_set():
                return
            logger.warning("lease of table %s is lost", lease.table)
            lease.lost.set()
        try:
            lease.on_loss()
        except DeltaqError as exc:
            logger.warning("table %s: %s; its commit, if any, loses at the fence", lease.table, exc)


def _claims(told: Sequence[int | str]) -> Iterator[Claims]:
    """Read the five values that take.lua tells of each lane."""
    for upto, began, attempt, crashes, cause in zip(*[iter(told)] * 5, strict=True):
        yield Claims(
            upto=int(upto),
            began=int(began),
            attempt=int(attempt),
            crashes=int(crashes),
            cause=str(cause),
        )
