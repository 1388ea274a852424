"""Ends requests without applying them: those that are in the table already, and those given up."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import takewhile

from deltaq.tasks.errors import DeadLettered, DeltaqError
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.request import Lane, operation_of
from deltaq.worker.durable import sync_commit
from deltaq.worker.groups import Claims, CommitGroup, Waiting
from deltaq.worker.lake import Lake
from deltaq.worker.ledger import Committed, app_id, find_committed
from deltaq.worker.outcomes import Settlement, read_back
from deltaq.worker.recovery import Recovery
from deltaq.worker.turn import Turn

logger = logging.getLogger(__name__)


class Unapplied:
    """Looks in a table's log, whose word is the last, and acknowledges or fails accordingly.

    Args:
        inbox: Where requests wait.
        lake: Where the tables are.
        settlement: Writes outcomes and cleans up the staged files.
        recovery: Tells Redis again what it forgot.
    """

    def __init__(
        self, inbox: Inbox, lake: Lake, settlement: Settlement, recovery: Recovery
    ) -> None:
        self._inbox = inbox
        self._lake = lake
        self._settlement = settlement
        self._recovery = recovery

    def acknowledge(self, turn: Turn, lane: Lane, done: Sequence[Waiting], last: int) -> None:
        """Acknowledge those that the ledger, which is at ``last``, says are committed.

        Those of which the log knows nothing get new sequences.

        Raises:
            LeaseLost, TransientError: Somebody else will do it, or the next try.
        """
        table, ledger = turn.lease.table, app_id(turn.lease.epoch, lane)
        ids = [w.request.request_id for w in done]
        found = find_committed(self._lake.path(table), ledger, ids)
        members = tuple(takewhile(lambda w: w.request.request_id in found, done))
        if members:
            group = CommitGroup(table=table, lane=lane, app_id=ledger, members=members)
            self._acknowledge_found(turn, group, found)
            return
        # Redis gave these sequences out twice: it came back without its last writes.
        self._recovery.restore(turn.lease)
        moved = self._inbox.resequence(table, lane, above=last, token=turn.lease.token)
        logger.warning("table %s: %d requests got new sequences above %d", table, moved, last)

    def give_up(self, turn: Turn, lane: Lane, head: Waiting, exc: DeltaqError) -> None:
        """Fail a request, unless the table's log says it is committed.

        Raises:
            LeaseLost, TransientError: Somebody else will do it, or the next try.
        """
        table, ledger = turn.lease.table, app_id(turn.lease.epoch, lane)
        group = CommitGroup(table=table, lane=lane, app_id=ledger, members=(head,))
        found = find_committed(self._lake.path(table), ledger, [head.request.request_id])
        if found:
            self._acknowledge_found(turn, group, found)
        else:
            self._settlement.fail(turn.lease, group, exc, max(1, turn.claims(lane).attempt))

    def _acknowledge_found(
        self, turn: Turn, group: CommitGroup, found: Mapping[str, Committed]
    ) -> None:
        # Whoever committed them may have died, machine and all, before the commit was synced.
        for version in {found[r.request_id].version for r in group.requests}:
            sync_commit(self._lake.path(group.table), version)
        self._settlement.acknowledge(turn.lease, group, read_back(group, found))


def poisoned(head: Waiting, claims: Claims) -> DeadLettered:
    """Make the error of a request that was being applied in too many crashes."""
    operation, request = operation_of(head.request), head.request
    cause = f"; the last time: {claims.cause}" if claims.cause else ""
    return DeadLettered(
        f"{operation} {request.request_id} on table {request.table} was given up: in "
        f"{claims.crashes} crashes of workers or engines it was the one that was being applied"
        f"{cause}. Its rows are in the dead letters; when the cause is gone, bring it back with "
        f"'deltaq redrive {request.request_id}'",
        request_id=request.request_id,
        table=request.table,
        details={"crashes": claims.crashes, "cause": claims.cause},
    )
