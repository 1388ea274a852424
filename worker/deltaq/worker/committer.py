"""The spine: one wake-up, from taking a table's lease to releasing it."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import takewhile

from deltaq.tasks.errors import (
    EngineUnavailable,
    LeaseLost,
    QueueUnavailable,
    RequestError,
    TransientError,
)
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings
from deltaq.worker.durable import sync_commit
from deltaq.worker.groups import CommitGroup, Waiting, plan_group
from deltaq.worker.lake import Lake
from deltaq.worker.lease import Lease, Leases
from deltaq.worker.ledger import Committed, app_id, find_committed
from deltaq.worker.outcomes import Settlement, committed, read_back
from deltaq.worker.router import Router

logger = logging.getLogger(__name__)

#: Every so many groups the lanes are looked at in reverse, so that none starves.
_REVERSE_EVERY = 8
#: Seconds before the second try of a commit; doubled for each further one.
_FIRST_PAUSE = 0.1


class Committer:
    """Commits what waits for tables. Every method may run in many threads at once.

    Args:
        inbox: Where requests wait.
        leases: The leases of this worker.
        router: Has an engine perform them.
        lake: Where the tables are.
        settlement: Writes outcomes and cleans up the staged files.
        settings: Limits of groups and time.
        lanes: Those that this worker serves.
        ring: Sends a wake-up.
        stopping: Set when the worker shall end; looked at between two groups.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        leases: Leases,
        router: Router,
        lake: Lake,
        settlement: Settlement,
        settings: Settings,
        lanes: tuple[Lane, ...],
        ring: Callable[[str, Lane], None],
        stopping: threading.Event,
    ) -> None:
        self._inbox = inbox
        self._leases = leases
        self._router = router
        self._lake = lake
        self._settlement = settlement
        self._settings = settings
        self._lanes = lanes
        self._ring = ring
        self._stopping = stopping

    def drain(self, table: str) -> None:
        """Commit what waits for one table, in order, as its only committer.

        Returns when the inbox is empty, another worker has the lease, the time slice is over
        or the worker stops; in the last two cases with a wake-up sent for the rest.
        """
        try:
            with self._leases.take(table) as lease:
                if lease is not None:
                    self._drain(_Turn(lease, self._settings.time_slice))
        except LeaseLost as exc:
            logger.warning("%s; what is left goes on there", exc)
        except QueueUnavailable as exc:
            logger.warning("table %s: %s; the sweeper will ring it again", table, exc)

    def _drain(self, turn: _Turn) -> None:
        table = turn.lease.table
        while turn.goes_on(self._stopping):
            lane, waiting = self._peek(turn)
            try:
                if waiting:
                    self._commit_head(turn, lane, waiting)
                turn.failures = 0
                # Mostly the inbox is empty now: asking for the release first saves the peeks.
                if self._release(turn.lease, force=False):
                    return
            except (LeaseLost, QueueUnavailable):
                raise
            except EngineUnavailable as exc:
                # Spark is warming: tables that do not need it may have the slot meanwhile. The
                # sweeper rings this one again, at the latest when Spark is warm.
                logger.info("table %s: %s", table, exc)
                self._leases.release(turn.lease, lanes=self._lanes, force=True)
                return
            except TransientError as exc:
                self._pause(turn, exc)
        self._release(turn.lease, force=True)

    def _peek(self, turn: _Turn) -> tuple[Lane, list[Waiting]]:
        turn.groups += 1
        lanes = self._lanes if turn.groups % _REVERSE_EVERY else self._lanes[::-1]
        table, count = turn.lease.table, self._settings.group_max_requests
        for lane in lanes:
            entries = self._inbox.peek(table, lane, count=count)
            readable = self._settlement.readable(turn.lease, lane, entries)
            if readable:
                return lane, readable
        return lanes[0], []

    def _commit_head(self, turn: _Turn, lane: Lane, waiting: Sequence[Waiting]) -> None:
        table, ledger = turn.lease.table, app_id(turn.lease.epoch, lane)
        if lane not in turn.ledgers:
            try:
                turn.ledgers[lane] = self._router.ledger(table, ledger)
            except RequestError as exc:  # no engine of this worker can read the table
                self._give_up(turn, lane, waiting[0], exc)
                return
        last = turn.ledgers[lane]
        done = [w for w in waiting if w.sequence <= last]
        if done:
            self._acknowledge_committed(turn, lane, done, last)
            return
        waiting = self._settlement.drop_expired(turn.lease, lane, waiting)
        if not waiting:
            return
        members = plan_group(
            waiting,
            max_requests=self._settings.group_max_requests,
            max_bytes=self._settings.group_max_bytes,
        )
        self._commit(turn, CommitGroup(table=table, lane=lane, app_id=ledger, members=members))

    def _commit(self, turn: _Turn, group: CommitGroup) -> None:
        sequences = [m.sequence for m in group.members]
        attempt = self._inbox.claim(group.table, group.lane, sequences, token=turn.lease.token)
        if not attempt:
            return  # a member was cancelled since it was read; look again
        began = time.time()
        turn.ledgers.pop(group.lane, None)  # unknown while the commit may or may not be there
        turn.lease.on_loss = partial(self._router.interrupt, group)
        try:
            performed = self._router.apply(group)
        except RequestError as exc:
            if len(group.members) == 1:
                self._settlement.fail(turn.lease, group, exc, attempt)
            else:
                for half in group.halves():
                    self._commit(turn, half)
            return
        turn.ledgers[group.lane] = group.sequence
        outcomes = committed(group, performed, began=began, attempt=attempt)
        self._settlement.acknowledge(turn.lease, group, outcomes)
        self._router.tidy(group.table, performed)

    def _acknowledge_committed(
        self, turn: _Turn, lane: Lane, done: Sequence[Waiting], last: int
    ) -> None:
        table, ledger = turn.lease.table, app_id(turn.lease.epoch, lane)
        ids = [w.request.request_id for w in done]
        found = find_committed(self._lake.path(table), ledger, ids)
        members = tuple(takewhile(lambda w: w.request.request_id in found, done))
        if members:
            group = CommitGroup(table=table, lane=lane, app_id=ledger, members=members)
            self._acknowledge_found(turn, group, found)
            return
        # Redis gave these sequences out twice: it came back without its last writes.
        moved = self._inbox.resequence(table, lane, above=last, token=turn.lease.token)
        logger.warning("table %s: %d requests got new sequences above %d", table, moved, last)

    def _acknowledge_found(
        self, turn: _Turn, group: CommitGroup, found: Mapping[str, Committed]
    ) -> None:
        # Whoever committed them may have died, machine and all, before the commit was synced.
        for version in {found[r.request_id].version for r in group.requests}:
            sync_commit(self._lake.path(group.table), version)
        self._settlement.acknowledge(turn.lease, group, read_back(group, found))

    def _give_up(self, turn: _Turn, lane: Lane, head: Waiting, exc: RequestError) -> None:
        """Fail a request whose table cannot be read, unless the log says it is committed."""
        table, ledger = turn.lease.table, app_id(turn.lease.epoch, lane)
        group = CommitGroup(table=table, lane=lane, app_id=ledger, members=(head,))
        found = find_committed(self._lake.path(table), ledger, [head.request.request_id])
        if found:
            self._acknowledge_found(turn, group, found)
        else:
            self._settlement.fail(turn.lease, group, exc, attempt=1)

    def _release(self, lease: Lease, *, force: bool) -> bool:
        released, waiting = self._leases.release(lease, lanes=self._lanes, force=force)
        if released:
            for lane in waiting:
                self._ring(lease.table, lane)
        return released

    def _pause(self, turn: _Turn, exc: TransientError) -> None:
        turn.ledgers.clear()
        turn.failures += 1
        longest = min(_FIRST_PAUSE * 2**turn.failures, self._settings.retry_seconds)
        pause = random.uniform(longest / 2, longest)
        logger.warning("table %s: %s; trying again in %.1f s", turn.lease.table, exc, pause)
        self._stopping.wait(pause)


class _Turn:
    """One worker's turn at a table: what it knows while it holds the lease."""

    def __init__(self, lease: Lease, time_slice: float) -> None:
        self.lease = lease
        self.deadline = time.monotonic() + time_slice
        #: Last committed sequence by lane; absent when the table must be asked.
        self.ledgers: dict[Lane, int] = {}
        self.groups = 0
        self.failures = 0

    def goes_on(self, stopping: threading.Event) -> bool:
        """Tell whether another group may begin.

        Raises:
            LeaseLost: The lease was not renewed in time.
        """
        if self.lease.lost.is_set():
            raise LeaseLost(f"the lease of table {self.lease.table} ended", table=self.lease.table)
        return time.monotonic() < self.deadline and not stopping.is_set()
