"""The spine: one wake-up, from taking a table's lease to releasing it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from deltaq.tasks.errors import (
    CommitConflict,
    DeltaqError,
    EngineDied,
    EngineUnavailable,
    LeaseLost,
    QueueUnavailable,
    RequestError,
    TransientError,
)
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.request import Lane, Maintenance
from deltaq.tasks.settings import Settings
from deltaq.tasks.slices import Slices
from deltaq.worker.groups import CommitGroup, Waiting, plan_group, suspects
from deltaq.worker.lake import Lake
from deltaq.worker.lease import Lease, Leases
from deltaq.worker.ledger import app_id, was_moved
from deltaq.worker.maintenance.pacing import Pacing
from deltaq.worker.observers import NOBODY, GroupCommitted, Observer
from deltaq.worker.outcomes import Settlement, committed
from deltaq.worker.pressure import Pressure
from deltaq.worker.recovery import Recovery
from deltaq.worker.router import Performed, Router
from deltaq.worker.signatures import Signatures
from deltaq.worker.turn import Turn
from deltaq.worker.unapplied import Unapplied, poisoned

logger = logging.getLogger(__name__)

#: Every so many groups the lanes are looked at in reverse, so that none starves.
_REVERSE_EVERY = 8
#: Seconds before the second try of a commit; doubled for each further one.
_FIRST_PAUSE = 0.1
#: Seconds, at most, after an outside writer was first: it is no sooner done for being let alone.
_LONGEST_AFTER_CONFLICT = 0.5
#: Requests in one group that make a stream, and seconds, at most, between two groups of one.
_STREAM = 16
_LONGEST_GATHERING = 0.02


class Committer:
    """Commits what waits for tables. Every method may run in many threads at once.

    Args:
        inbox: Where requests wait.
        leases: The leases of this worker.
        router: Has an engine perform them.
        lake: Where the tables are.
        settlement: Writes outcomes and cleans up the staged files.
        signatures: Checks who asked for what; None takes requests from anybody.
        recovery: Tells Redis again what it forgot.
        settings: Limits of groups and time.
        lanes: Those that this worker serves.
        ring: Sends a wake-up.
        stopping: Set when the worker shall end; looked at between two groups.
        observers: Told of what happens.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        leases: Leases,
        router: Router,
        lake: Lake,
        settlement: Settlement,
        signatures: Signatures | None = None,
        recovery: Recovery,
        settings: Settings,
        lanes: tuple[Lane, ...],
        ring: Callable[[str, Lane], None],
        stopping: threading.Event,
        observers: Observer = NOBODY,
    ) -> None:
        self._inbox = inbox
        self._leases = leases
        self._router = router
        self._settlement = settlement
        self._unapplied = Unapplied(inbox, lake, settlement, recovery)
        self._signatures = signatures
        self._recovery = recovery
        self._settings = settings
        self._lanes = lanes
        self._ring = ring
        self._stopping = stopping
        self._observers = observers
        self._pressure = Pressure.of(settings)
        self._pacing = Pacing(settings.maintenance_share)

    def drain(self, table: str) -> None:
        """Commit what waits for one table, in order, as its only committer.

        Returns when the inbox is empty, another worker has the lease, the time slice is over
        or the worker stops; in the last two cases with a wake-up sent for the rest.
        """
        try:
            with self._leases.take(table) as lease:
                if lease is not None:
                    self._drain(Turn(lease, self._settings.time_slice))
        except LeaseLost as exc:
            logger.warning("%s; what is left goes on there", exc)
        except QueueUnavailable as exc:
            logger.warning("table %s: %s; the sweeper will ring it again", table, exc)

    def _drain(self, turn: Turn) -> None:
        table = turn.lease.table
        while turn.goes_on(self._stopping):
            try:
                if not turn.lease.epoch:
                    self._recovery.restore(turn.lease)
                lane, waiting = self._peek(turn)
                if waiting:
                    self._commit_head(turn, lane, waiting)
                    self._gather(turn)
                # Mostly the inbox is empty now: asking for the release first saves the peeks.
                if self._release(turn.lease, force=not waiting and self._pacing.rests(table)):
                    return
            except (LeaseLost, QueueUnavailable):
                raise
            except EngineUnavailable as exc:
                # Spark is warming: tables that do not need it may have the slot meanwhile. The
                # sweeper rings this one again, at the latest when Spark is warm.
                logger.info("table %s: %s", table, exc)
                self._note_retry(turn, exc, longest=0.0)
                self._leases.release(turn.lease, lanes=self._lanes, force=True)
                return
            except TransientError as exc:
                if not self._pause(turn, exc):
                    return
            except Exception as exc:
                logger.exception("table %s: unforeseen", table)
                if not self._pause(turn, TransientError(f"{type(exc).__name__}: {exc}")):
                    return
        self._release(turn.lease, force=True)

    def _peek(self, turn: Turn) -> tuple[Lane, list[Waiting]]:
        turn.groups += 1
        # After a slice of maintenance whoever came meanwhile goes first, whatever the count.
        forward = turn.groups % _REVERSE_EVERY or turn.after_slice
        lanes = self._lanes if forward else self._lanes[::-1]
        table, count = turn.lease.table, self._settings.group_max_requests
        for lane in lanes:
            if lane is Lane.MAINTENANCE and self._pacing.rests(table):
                continue
            entries = self._inbox.peek(table, lane, count=count)
            readable = self._settlement.readable(turn.lease, lane, entries)
            if readable:
                return lane, readable
        return lanes[0], []

    def _gather(self, turn: Turn) -> None:
        """Let requests come in before the next group, where they come in a stream.

        Half as many commits, each of twice as many requests, leave the processor to those who
        submit. Few callers that wait for their results gain nothing, and are not held up.
        """
        if turn.gathered >= _STREAM:
            self._stopping.wait(min(turn.commit_seconds, _LONGEST_GATHERING))

    def _commit_head(self, turn: Turn, lane: Lane, waiting: Sequence[Waiting]) -> None:
        table, ledger = turn.lease.table, app_id(turn.lease.epoch, lane)
        if lane not in turn.ledgers:
            self._router.expect(w.request for w in waiting)
            try:
                turn.ledgers[lane] = self._router.ledger(table, ledger)
            except RequestError as exc:  # no engine of this worker can read the table
                self._unapplied.give_up(turn, lane, waiting[0], exc)
                return
        last = turn.ledgers[lane]
        done = [w for w in waiting if w.sequence <= last]
        if done:
            self._unapplied.acknowledge(turn, lane, done, last)
            return
        waiting = self._settlement.drop_expired(turn.lease, lane, waiting)
        if not waiting:
            return
        claims = turn.claims(lane)
        if claims.poison(waiting[0]):
            self._unapplied.give_up(turn, lane, waiting[0], poisoned(waiting[0], claims))
            return
        limits = self._pressure.limits()
        members = plan_group(
            suspects(waiting, claims),
            max_requests=limits.max_requests,
            max_bytes=limits.max_bytes,
        )
        group = CommitGroup(table=table, lane=lane, app_id=ledger, members=members)
        with self._pacing.slice(group.first) as may_begin:
            if may_begin:
                self._commit(turn, group)

    def _commit(self, turn: Turn, group: CommitGroup, attempt: int = 0) -> None:
        attempt = self._inbox.claim(
            group.table,
            group.lane,
            [m.sequence for m in group.members],
            token=turn.lease.token,
            attempt=attempt,
        )
        if attempt < 1:  # a member was cancelled since it was read; look again
            if attempt < 0:  # Redis was restarted, and may have forgotten something
                turn.lease.epoch = ""
            return
        turn.lease.claims[group.lane] = turn.claims(group.lane).made(group.members, attempt)
        turn.after_slice = isinstance(group.first, Maintenance)
        began = time.time()
        # Unknown while the commit may or may not be there.
        last = turn.ledgers.pop(group.lane)
        group = replace(group, after=last, begun=self._begun(group))
        turn.lease.on_loss = partial(self._router.interrupt, group)
        self._observers.group_begun(group, attempt=attempt)
        try:
            performed = self._apply(turn, group)
        except RequestError as exc:
            turn.ledgers[group.lane] = last  # nothing was written
            if len(group.members) == 1:
                self._settlement.fail(turn.lease, group, exc, attempt)
            else:
                for half in group.halves():
                    self._commit(turn, half, attempt + 1)
            return
        if performed.commit.more is not None:
            turn.ledgers[group.lane] = last
            self._put_down(turn, group, performed.commit.more)
            return
        turn.gathered, turn.commit_seconds = len(group.members), time.time() - began
        self._conclude(turn, group, performed, began=began, attempt=attempt)

    def _put_down(self, turn: Turn, group: CommitGroup, more: Slices) -> None:
        """Leave a request that is done in slices where it is, with how far it came."""
        self._inbox.put_down(group.table, group.lane, more, token=turn.lease.token)
        if Lane.LIVE not in self._lanes:  # other workers are to have the table in between
            turn.end()

    def _conclude(
        self, turn: Turn, group: CommitGroup, performed: Performed, *, began: float, attempt: int
    ) -> None:
        """Acknowledge a group that is in the table, and tell who looks on."""
        turn.ledgers[group.lane] = group.sequence
        self._pacing.note(group)
        if performed.commit.version is None:  # the table is gone, and its ledgers with it
            turn.ledgers.clear()
        outcomes = committed(group, performed, began=began, attempt=attempt)
        try:
            self._settlement.acknowledge(turn.lease, group, outcomes)
        finally:
            self._observers.group_committed(
                GroupCommitted(
                    group=group,
                    performed=performed,
                    outcomes=outcomes,
                    attempt=attempt,
                    began=began,
                    commit_seconds=turn.commit_seconds,
                )
            )
        self._router.tidy(group, performed)

    def _begun(self, group: CommitGroup) -> Slices | None:
        if not isinstance(group.first, Maintenance):
            return None
        return self._inbox.slices(group.table, group.first.request_id)

    def _apply(self, turn: Turn, group: CommitGroup) -> Performed:
        """Have a claimed group performed; after an error that is not the group's, end the claim."""
        try:
            if self._signatures is not None:
                self._signatures.check(group)
            return self._router.apply(group)
        except RequestError:
            raise
        except EngineDied as exc:
            self._unclaim(turn, group, crash=exc.message)
            raise
        except EngineUnavailable:  # Spark is warming
            self._inbox.unclaim(group.table, group.lane, token=turn.lease.token, untried=True)
            raise
        except DeltaqError as exc:
            if was_moved(exc):
                self._observers.commit_fenced(group)
            self._unclaim(turn, group)
            raise
        except Exception as exc:
            # A mistake of ours or of the engine. With other requests it might not happen, so it
            # is held against these as the death of the worker would be.
            self._unclaim(turn, group, crash=f"{type(exc).__name__}: {exc}")
            raise

    def _unclaim(self, turn: Turn, group: CommitGroup, crash: str = "") -> None:
        lane = group.lane
        crashes = self._inbox.unclaim(group.table, lane, token=turn.lease.token, crash=crash)
        if crash:
            known = turn.claims(lane)
            turn.lease.claims[lane] = replace(known, crashes=crashes, cause=crash)

    def _release(self, lease: Lease, *, force: bool) -> bool:
        released, waiting = self._leases.release(lease, lanes=self._lanes, force=force)
        if released:
            for lane in waiting:
                # What rests is for the sweeper to ring.
                if lane is not Lane.MAINTENANCE or not self._pacing.rests(lease.table):
                    self._ring(lease.table, lane)
        return released

    def _pause(self, turn: Turn, exc: TransientError) -> bool:
        """Wait before the next try; False when that is for another turn."""
        turn.ledgers.clear()
        longest = self._settings.retry_seconds
        if isinstance(exc, CommitConflict):
            longest = min(longest, _LONGEST_AFTER_CONFLICT)
        pause = self._note_retry(turn, exc, longest=longest)
        table = turn.lease.table
        told = {"action": "retried", "table": table, "error": exc.code, "pause_seconds": pause}
        said = exc.message.removeprefix(f"table {table}: ")  # as errors of engines begin
        logger.warning("table %s: %s; trying again in %.1f s", table, said, pause, extra=told)
        if time.monotonic() + pause < turn.deadline:
            self._stopping.wait(pause)
            return True
        # Others may have the slot meanwhile. The sweeper rings the table when it is time.
        self._leases.release(turn.lease, lanes=self._lanes, force=True)
        return False

    def _note_retry(self, turn: Turn, exc: TransientError, *, longest: float) -> float:
        lease = turn.lease
        pause = self._inbox.note_retry(
            lease.table, exc.message, first=_FIRST_PAUSE, longest=longest, token=lease.token
        )
        self._observers.retried(lease.table, exc, pause=pause)
        return pause
