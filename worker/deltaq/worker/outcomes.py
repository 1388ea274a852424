"""From what an engine did to what each caller hears, and what becomes of the staged files."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from deltaq.tasks.calls import unapplied
from deltaq.tasks.entries import Entry, Settled
from deltaq.tasks.error_info import ErrorInfo, info_from_error
from deltaq.tasks.errors import DeltaqError, RequestError, StorageUnavailable
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.names import check_client_id, check_request_id
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import (
    Adopt,
    Append,
    FrameRequest,
    Lane,
    Request,
    decode_request,
    operation_of,
)
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines import RowCounts
from deltaq.worker.groups import CommitGroup, Waiting, split_expired
from deltaq.worker.lease import Lease
from deltaq.worker.ledger import Committed
from deltaq.worker.observers import NOBODY, Observer
from deltaq.worker.remover import Remover
from deltaq.worker.router import Performed

logger = logging.getLogger(__name__)


def committed(
    group: CommitGroup, performed: Performed, *, began: float, attempt: int
) -> list[Outcome]:
    """Make the outcomes of a group that was just committed.

    Args:
        group: What was committed.
        performed: What the engine says of it.
        began: When the commit began, seconds since 1970.
        attempt: The try that succeeded, from 1.
    """
    commit_seconds = round(time.time() - began, 6)
    return [
        _outcome(
            member,
            group,
            version=performed.commit.version,
            counts=counts,
            performed=performed,
            attempt=attempt,
            waited_seconds=max(0.0, round(began - member.request.submitted_at_ms / 1000, 6)),
            commit_seconds=commit_seconds,
        )
        for member, counts in zip(group.members, performed.commit.counts, strict=True)
    ]


def read_back(group: CommitGroup, found: Mapping[str, Committed]) -> list[Outcome]:
    """Make the outcomes of requests that the table's log says are committed."""
    outcomes = []
    for member in group.members:
        request = member.request
        added = request.rows if isinstance(request, Append | Adopt) else None
        counts = RowCounts(inserted=added)
        version = found[request.request_id].version
        outcomes.append(_outcome(member, group, version=version, counts=counts))
    return outcomes


def _outcome(
    member: Waiting,
    group: CommitGroup,
    *,
    version: int | None,
    counts: RowCounts,
    performed: Performed | None = None,
    attempt: int | None = None,
    waited_seconds: float | None = None,
    commit_seconds: float | None = None,
) -> Outcome:
    return Outcome(
        request_id=member.request.request_id,
        table=group.table,
        operation=operation_of(member.request),
        state=State.COMMITTED,
        version=version,
        rows=rows_of(member.request),
        inserted=counts.inserted,
        updated=counts.updated,
        deleted=counts.deleted,
        engine=performed.engine if performed else None,
        engine_reason=performed.reason if performed else None,
        sequence=member.sequence,
        group_size=len(group.members),
        attempt=attempt,
        waited_seconds=waited_seconds,
        commit_seconds=commit_seconds,
        value=performed.commit.value if performed else None,
    )


def failed(request: Request, sequence: int, error: ErrorInfo, attempt: int) -> Outcome:
    """Make the outcome of a request that cannot succeed."""
    return Outcome(
        request_id=request.request_id,
        table=request.table,
        operation=operation_of(request),
        state=State.FAILED,
        rows=rows_of(request),
        sequence=sequence,
        attempt=attempt,
        error=error,
    )


def rows_of(request: Request) -> int | None:
    """Count the rows that a request brings, None if it brings none by nature."""
    return request.rows if isinstance(request, FrameRequest | Adopt) else None


def bury(staging: StagingArea, outcome: Outcome) -> None:
    """Make a dead letter of the staged file of a request that failed, if it is there.

    Raises:
        StorageUnavailable: The file cannot be moved now; doing it again is safe.
    """
    staged = staging.request_path(outcome.table, outcome.request_id)
    if staged.is_file():
        grave = staging.dead_path(outcome.table, outcome.request_id)
        staging.bury(staged, grave, msgspec.json.encode(outcome.error))


class Settlement:
    """Writes outcomes under a lease, then removes or buries the staged files.

    In this order: a staged file is the last copy of its request until the outcome is known, and
    whose outcome counts is decided by the lease, not by who comes to the file first.
    """

    def __init__(
        self,
        inbox: Inbox,
        staging: StagingArea,
        remover: Remover,
        *,
        observers: Observer = NOBODY,
    ) -> None:
        self._inbox = inbox
        self._staging = staging
        self._remover = remover
        self._observers = observers

    def acknowledge(self, lease: Lease, group: CommitGroup, outcomes: Sequence[Outcome]) -> None:
        """Tell the callers of a group and remove its staged files.

        Raises:
            LeaseLost: Somebody else will.
        """
        settled = [
            Settled(outcome=o, client_id=r.client_id, size_bytes=r.size_bytes)
            for o, r in zip(outcomes, group.requests, strict=True)
        ]
        self._inbox.acknowledge(
            group.table, group.lane, settled, upto=group.sequence, token=lease.token
        )
        self._remover.remove(group.requests)
        self._observers.settled(group.lane, outcomes, group.requests)

    def fail(self, lease: Lease, group: CommitGroup, error: DeltaqError, attempt: int) -> None:
        """Tell the caller of a group of one that it failed; its file becomes a dead letter.

        Raises:
            LeaseLost: Somebody else will, or has committed it; the file is left alone.
        """
        (member,) = group.members
        request = member.request
        outcome = failed(request, member.sequence, info_from_error(error), attempt)
        logger.warning(
            "table %s: %s %s failed: %s",
            request.table,
            outcome.operation,
            request.request_id,
            error.message,
            extra={
                "action": "failed",
                "request_id": request.request_id,
                "table": request.table,
                "lane": str(group.lane),
                "operation": outcome.operation,
                "sequence": member.sequence,
                "attempt": attempt,
                "error": error.code,
            },
        )
        self._inbox.acknowledge(
            group.table,
            group.lane,
            [Settled(outcome=outcome, client_id=request.client_id, size_bytes=request.size_bytes)],
            upto=member.sequence,
            token=lease.token,
        )
        try:
            bury(self._staging, outcome)
        except StorageUnavailable as exc:
            # The request is settled; the sweeper moves the file later.
            logger.warning("%s", exc)
        self._observers.settled(group.lane, [outcome], [request])
        self._observers.dead_lettered(outcome)

    def drop_expired(
        self, lease: Lease, lane: Lane, waiting: Sequence[Waiting]
    ) -> Sequence[Waiting]:
        """Settle the uncommitted requests at the head of a lane that were not begun in time.

        Returns:
            What is behind them, up to the next such one. Without deadlines Redis is not asked.

        Raises:
            LeaseLost: Somebody else will.
        """
        if all(w.deadline_ms is None for w in waiting):
            return waiting
        expired, rest = split_expired(waiting, self._inbox.clock(lease.table, lane))
        if not expired:
            return rest
        settled = [
            Settled(
                outcome=unapplied(w.request, State.EXPIRED, sequence=w.sequence),
                client_id=w.request.client_id,
                size_bytes=w.request.size_bytes,
            )
            for w in expired
        ]
        logger.info("table %s: %d requests expired in lane %s", lease.table, len(expired), lane)
        self._inbox.acknowledge(
            lease.table, lane, settled, upto=expired[-1].sequence, token=lease.token
        )
        requests = [w.request for w in expired]
        self._remover.remove(requests)
        self._observers.settled(lane, [s.outcome for s in settled], requests)
        return rest

    def readable(self, lease: Lease, lane: Lane, entries: Iterable[Entry]) -> list[Waiting]:
        """Read entries up to the first that is no request of this table; refuse that if first.

        Raises:
            LeaseLost: Somebody else will.
        """
        waiting: list[Waiting] = []
        for entry in entries:
            try:
                request = decode_request(entry.wire)
                if (request.table, request.lane) != (lease.table, lane):
                    raise RequestError(f"a request for table {request.table}, lane {request.lane}")
            except DeltaqError as exc:
                if waiting:
                    break  # what is before it goes first
                self._refuse(lease, lane, entry, exc)
            else:
                waiting.append(
                    Waiting(sequence=entry.sequence, request=request, deadline_ms=entry.deadline_ms)
                )
        return waiting

    def _refuse(self, lease: Lease, lane: Lane, entry: Entry, error: DeltaqError) -> None:
        address = _read_address(entry.wire)
        logger.error(
            "table %s, lane %s: entry %d refused: %s",
            lease.table,
            lane,
            entry.sequence,
            error,
            extra={
                "action": "refused",
                "request_id": address.request_id if address else None,
                "table": lease.table,
                "lane": str(lane),
                "sequence": entry.sequence,
                "error": error.code,
            },
        )
        settled = []
        if address is not None:
            outcome = Outcome(
                request_id=address.request_id,
                table=lease.table,
                operation=address.op,
                state=State.FAILED,
                sequence=entry.sequence,
                error=info_from_error(error),
            )
            settled = [Settled(outcome=outcome, client_id=address.client_id, size_bytes=0)]
        self._inbox.acknowledge(lease.table, lane, settled, upto=entry.sequence, token=lease.token)
        if settled:
            self._observers.settled(lane, [s.outcome for s in settled], [])


class _Address(msgspec.Struct):
    """The least that is needed to answer a request that cannot be understood."""

    request_id: str
    client_id: str
    op: str


def _read_address(wire: str) -> _Address | None:
    try:
        address = msgspec.json.decode(wire, type=_Address)
        check_request_id(address.request_id)
        check_client_id(address.client_id)
    except (msgspec.MsgspecError, DeltaqError):
        return None
    return address
