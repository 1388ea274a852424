"""What this worker did, counted for Prometheus."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

from deltaq.tasks.backfill import Prepared
from deltaq.tasks.errors import TransientError
from deltaq.tasks.manifest import Manifest
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.query import Query
from deltaq.tasks.request import Lane, Request
from deltaq.worker.groups import CommitGroup
from deltaq.worker.observers import GroupCommitted, Observer

#: In place of the name of a table that has no series of its own; no table can have that name.
OTHER = "(other)"
_OPERATIONS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Request))
#: Seconds: native commits take milliseconds, those of Spark up to minutes.
_COMMIT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: Seconds: from an idle table to a night's backlog.
_WAIT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
_REQUESTS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
_ROWS = tuple(10.0**power for power in range(9))
_BYTES = tuple(4.0**power * 1024 for power in range(1, 11))


class Metrics(Observer):
    """Counts what a worker does.

    What is counted for each table has a bounded number of series: tables that come when it is
    reached share one.

    Args:
        registry: Where the figures are found.
        tables: How many tables have series of their own.
    """

    def __init__(self, registry: CollectorRegistry, *, tables: int) -> None:
        self._most_tables = tables
        self._tables: dict[str, str] = {}

        def counter(name: str, says: str, *labels: str) -> Counter:
            return Counter(name, says, labels, registry=registry)

        def histogram(name: str, says: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, says, labels, registry=registry, buckets=buckets)

        self._requests = counter(
            "deltaq_requests_total",
            "Requests that came to an outcome: committed, failed, expired or cancelled.",
            *("table", "operation", "engine", "outcome"),
        )
        self._errors = counter(
            "deltaq_request_errors_total", "Requests that failed, by the code of the error.", "code"
        )
        self._dead = counter("deltaq_dead_letters_total", "Requests that became dead letters.")
        self._waited = histogram(
            "deltaq_request_wait_seconds",
            "From the submission of a request to the beginning of its commit.",
            _WAIT,
            "lane",
        )
        self._seconds = histogram(
            "deltaq_commit_seconds", "Time that a commit took.", _COMMIT, "engine"
        )
        self._group = histogram("deltaq_commit_requests", "Requests in one commit.", _REQUESTS)
        self._rows = histogram("deltaq_commit_rows", "Rows brought by one commit.", _ROWS)
        self._bytes = histogram("deltaq_commit_bytes", "Staged bytes in one commit.", _BYTES)
        self._retries = counter(
            "deltaq_retries_total", "Tries that failed for a reason that may pass.", "code"
        )
        self._taken_over = counter(
            "deltaq_lease_takeovers_total",
            "Leases taken that their last holder never gave back: it died or hung.",
        )
        self._lost = counter(
            "deltaq_leases_lost_total", "Leases of this worker that ended before it was done."
        )
        self._fenced = counter(
            "deltaq_commits_fenced_total",
            "Commits refused at the table, as somebody else had moved its ledger.",
        )
        self._parts = counter(
            "deltaq_backfill_parts_total",
            "Parts of backfills: prepared, cut into more parts, or failed, perhaps to be tried again.",
            "outcome",
        )
        self._part_rows = counter("deltaq_backfill_rows_total", "Rows of the prepared parts.")
        self._part_bytes = counter(
            "deltaq_backfill_bytes_total", "Bytes of source of the prepared parts."
        )
        self._queries = counter(
            "deltaq_queries_total",
            "Queries answered: reads, history, detail and so on.",
            *("operation", "engine", "outcome"),
        )
        self._query_seconds = histogram(
            "deltaq_query_seconds", "Time that the answer to a query took.", _COMMIT, "operation"
        )

    def group_committed(self, commit: GroupCommitted) -> None:
        """Count the commit, and observe its size and time."""
        engine = commit.performed.engine or "none"
        self._seconds.labels(engine).observe(commit.commit_seconds)
        self._group.observe(len(commit.outcomes))
        self._rows.observe(sum(outcome.rows or 0 for outcome in commit.outcomes))
        self._bytes.observe(sum(request.size_bytes for request in commit.group.requests))

    def settled(self, lane: Lane, outcomes: Sequence[Outcome], requests: Sequence[Request]) -> None:
        """Count the outcomes, and observe how long the requests waited."""
        table = self._label(outcomes[0].table)
        alike = Tally((o.operation, o.engine or "none", str(o.state)) for o in outcomes)
        for labels, count in alike.items():
            self._requests.labels(table, *labels).inc(count)
        waited = self._waited.labels(lane)
        for outcome in outcomes:
            if outcome.waited_seconds is not None:
                waited.observe(outcome.waited_seconds)
            elif outcome.state is State.FAILED and outcome.error is not None:
                self._errors.labels(outcome.error.code).inc()

    def cancelled(self, table: str, operation: str, count: int) -> None:
        """Count requests that were cancelled, as their clients told Redis."""
        if operation not in _OPERATIONS:  # a newer client's, or a word that somebody made up
            operation = OTHER
        self._requests.labels(self._label(table), operation, "none", State.CANCELLED).inc(count)

    def dead_lettered(self, outcome: Outcome) -> None:
        """Count a dead letter."""
        self._dead.inc()

    def retried(self, table: str, error: TransientError, *, pause: float) -> None:
        """Count a try that failed."""
        self._retries.labels(error.code).inc()

    def lease_taken_over(self, table: str, *, left_by: str) -> None:
        """Count a lease that its holder left."""
        self._taken_over.inc()

    def lease_lost(self, table: str) -> None:
        """Count a lease that this worker lost."""
        self._lost.inc()

    def commit_fenced(self, group: CommitGroup) -> None:
        """Count a commit that lost at the table."""
        self._fenced.inc()

    def part_ended(self, manifest: Manifest, part: int, prepared: Prepared | None) -> None:
        """Count a part, and what was in it."""
        outcome = "failed" if prepared is None else "cut" if prepared.pieces else "prepared"
        self._parts.labels(outcome).inc()
        if prepared is not None:
            self._part_rows.inc(prepared.rows)
            self._part_bytes.inc(prepared.source_bytes)

    def answered(self, query: Query, outcome: Outcome) -> None:
        """Count an answer, and observe how long it took."""
        came_to = "failed" if outcome.state is State.FAILED else "answered"
        self._queries.labels(outcome.operation, outcome.engine or "none", came_to).inc()
        if outcome.commit_seconds is not None:
            self._query_seconds.labels(outcome.operation).observe(outcome.commit_seconds)

    def _label(self, table: str) -> str:
        known = self._tables.get(table)
        if known is None:
            if len(self._tables) >= self._most_tables:
                return OTHER
            known = self._tables[table] = table
        return known
