"""Those who look on: metrics, events, logs and traces. None of them may stop a commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deltaq.tasks.backfill import Prepared, Verdict
from deltaq.tasks.errors import TransientError
from deltaq.tasks.manifest import Manifest
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.query import Query
from deltaq.tasks.request import Lane, Request
from deltaq.worker.groups import CommitGroup
from deltaq.worker.router import Performed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GroupCommitted:
    """A group that has become one Delta commit.

    Attributes:
        group: The group.
        performed: The commit, its engine and why that one.
        outcomes: Of its members, in order; ``waited_seconds`` is in each.
        attempt: The try that succeeded, from 1.
        began: When that try began, seconds since 1970.
        commit_seconds: How long it took.
    """

    group: CommitGroup
    performed: Performed
    outcomes: Sequence[Outcome]
    attempt: int
    began: float
    commit_seconds: float


class Observer:
    """What may be told of the work of one worker; every method may be left out.

    They are called by the threads that commit, so they take microseconds for each request, and
    hand anything longer to a thread of their own. Several threads call at once.
    """

    def group_begun(self, group: CommitGroup, *, attempt: int) -> None:
        """Note that an engine is about to perform a claimed group, for the ``attempt``-th time."""

    def group_committed(self, commit: GroupCommitted) -> None:
        """Note that a group is committed. Its callers have been told, unless the lease is lost."""

    def settled(self, lane: Lane, outcomes: Sequence[Outcome], requests: Sequence[Request]) -> None:
        """Note that requests of one table came to outcomes of any kind, which their callers heard.

        Args:
            lane: Their lane.
            outcomes: Committed, failed or expired; never empty.
            requests: Those that the outcomes are of, in the same order; empty for an entry that
                could not be read as a request.
        """

    def dead_lettered(self, outcome: Outcome) -> None:
        """Note that a request failed and its staged file is kept; :meth:`settled` was told too."""

    def retried(self, table: str, error: TransientError, *, pause: float) -> None:
        """Note that a table is tried again, ``pause`` seconds from now."""

    def lease_taken_over(self, table: str, *, left_by: str) -> None:
        """Note that the lease of a table was taken, which ``left_by`` had and never gave back."""

    def lease_lost(self, table: str) -> None:
        """Note that a lease of this worker ended before it was given back."""

    def commit_fenced(self, group: CommitGroup) -> None:
        """Note that a group was not committed: somebody else moved the table's ledger before."""

    def answered(self, query: Query, outcome: Outcome) -> None:
        """Note that a query has its answer, or its error."""

    def part_begun(self, manifest: Manifest, part: int) -> None:
        """Note that this worker begins to prepare a part of a backfill."""

    def part_ended(self, manifest: Manifest, part: int, prepared: Prepared | None) -> None:
        """Note that it is prepared; None if it is not: it failed, or another try will follow."""

    def backfill_given_up(self, manifest: Manifest, verdict: Verdict) -> None:
        """Note that a backfill failed or was cancelled, and what was prepared is removed."""


class Observers(Observer):
    """Tells all of several observers. One that fails is logged, once for each hook, and harmless.

    Args:
        observers: Who is told, in order.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)
        self._failed: set[tuple[Observer, str]] = set()

    def group_begun(self, group: CommitGroup, *, attempt: int) -> None:
        """Tell all."""
        self._tell("group_begun", lambda o: o.group_begun(group, attempt=attempt))

    def group_committed(self, commit: GroupCommitted) -> None:
        """Tell all."""
        self._tell("group_committed", lambda o: o.group_committed(commit))

    def settled(self, lane: Lane, outcomes: Sequence[Outcome], requests: Sequence[Request]) -> None:
        """Tell all."""
        self._tell("settled", lambda o: o.settled(lane, outcomes, requests))

    def dead_lettered(self, outcome: Outcome) -> None:
        """Tell all."""
        self._tell("dead_lettered", lambda o: o.dead_lettered(outcome))

    def retried(self, table: str, error: TransientError, *, pause: float) -> None:
        """Tell all."""
        self._tell("retried", lambda o: o.retried(table, error, pause=pause))

    def lease_taken_over(self, table: str, *, left_by: str) -> None:
        """Tell all."""
        self._tell("lease_taken_over", lambda o: o.lease_taken_over(table, left_by=left_by))

    def lease_lost(self, table: str) -> None:
        """Tell all."""
        self._tell("lease_lost", lambda o: o.lease_lost(table))

    def commit_fenced(self, group: CommitGroup) -> None:
        """Tell all."""
        self._tell("commit_fenced", lambda o: o.commit_fenced(group))

    def answered(self, query: Query, outcome: Outcome) -> None:
        """Tell all."""
        self._tell("answered", lambda o: o.answered(query, outcome))

    def part_begun(self, manifest: Manifest, part: int) -> None:
        """Tell all."""
        self._tell("part_begun", lambda o: o.part_begun(manifest, part))

    def part_ended(self, manifest: Manifest, part: int, prepared: Prepared | None) -> None:
        """Tell all."""
        self._tell("part_ended", lambda o: o.part_ended(manifest, part, prepared))

    def backfill_given_up(self, manifest: Manifest, verdict: Verdict) -> None:
        """Tell all."""
        self._tell("backfill_given_up", lambda o: o.backfill_given_up(manifest, verdict))

    def _tell(self, hook: str, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                # It would fail for each group: once is enough to find the mistake.
                if (observer, hook) not in self._failed:
                    self._failed.add((observer, hook))
                    name = type(observer).__name__
                    logger.exception("%s.%s failed; told this once", name, hook)


#: Who is told where nobody looks on.
NOBODY = Observer()
