"""What a worker counts, and how many series that takes."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from deltaq.tasks.backfill import Prepared
from deltaq.tasks.error_info import ErrorInfo
from deltaq.tasks.manifest import Manifest, Part
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Lane
from deltaq.worker.metrics import OTHER, Metrics
from deltaq.worker.observers import Observer, Observers


def outcome(table: str, *, error: ErrorInfo | None = None) -> Outcome:
    return Outcome(
        request_id="0",
        table=table,
        operation="append",
        state=State.FAILED if error else State.COMMITTED,
        engine=None if error else "native",
        error=error,
        waited_seconds=None if error else 0.5,
    )


def counted(registry: CollectorRegistry, table: str, *, how: str = "committed") -> float | None:
    engine = "native" if how == "committed" else "none"
    labels = {"table": table, "operation": "append", "engine": engine, "outcome": how}
    return registry.get_sample_value("deltaq_requests_total", labels)


def test_tables_beyond_the_limit_share_one_series() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, tables=2)

    for number in range(1000):
        metrics.settled(Lane.LIVE, [outcome(f"t{number}")], [])
    metrics.settled(Lane.LIVE, [outcome("t1"), outcome("t1")], [])

    assert (counted(registry, "t0"), counted(registry, "t1")) == (1, 3)
    assert counted(registry, "t2") is None
    assert counted(registry, OTHER) == 998


def test_a_failure_is_counted_by_its_code() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, tables=2)

    error = ErrorInfo(code="schema_mismatch", message="no")
    metrics.settled(Lane.LIVE, [outcome("t", error=error), outcome("t")], [])

    assert (counted(registry, "t"), counted(registry, "t", how="failed")) == (1, 1)
    by_code = registry.get_sample_value("deltaq_request_errors_total", {"code": "schema_mismatch"})
    assert by_code == 1
    waits = registry.get_sample_value("deltaq_request_wait_seconds_count", {"lane": "live"})
    assert waits == 1


def test_what_is_cancelled_has_a_bounded_number_of_series_too() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, tables=1)

    metrics.cancelled("t", "append", 2)
    for number in range(100):
        metrics.cancelled(f"t{number}", f"made-up-{number}", 1)

    assert counted(registry, "t", how="cancelled") == 2
    (family,) = (f for f in registry.collect() if f.name == "deltaq_requests")
    assert len({tuple(sample.labels.values()) for sample in family.samples}) == 2


def test_parts_of_backfills_are_counted_with_what_is_in_them() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, tables=1)
    manifest = Manifest(
        backfill_id="0", table="t", client_id="c", submitted_at_ms=0, columns=(), parts=()
    )
    prepared = Prepared(
        number=0, files=(), rows=7, source_bytes=100, seconds=1.0, worker="w", finished_at_ms=0
    )

    metrics.part_ended(manifest, 0, prepared)
    metrics.part_ended(manifest, 1, None)
    piece = Part(number=5, format="csv", slices=(), size_bytes=1)
    cut = msgspec.structs.replace(prepared, rows=0, source_bytes=0, pieces=(piece,))
    metrics.part_ended(manifest, 2, cut)

    for outcome in ("prepared", "failed", "cut"):
        parts = registry.get_sample_value("deltaq_backfill_parts_total", {"outcome": outcome})
        assert parts == 1
    assert registry.get_sample_value("deltaq_backfill_rows_total") == 7
    assert registry.get_sample_value("deltaq_backfill_bytes_total") == 100


class Broken(Observer):
    def lease_lost(self, table: str) -> None:
        raise ZeroDivisionError(table)


def test_an_observer_that_fails_is_told_once_and_keeps_nobody_from_hearing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = CollectorRegistry()
    observers = Observers([Broken(), Metrics(registry, tables=1)])

    for _ in range(3):
        observers.lease_lost("t")

    assert registry.get_sample_value("deltaq_leases_lost_total") == 3
    (record,) = caplog.records
    assert record.getMessage() == "Broken.lease_lost failed; told this once"
    assert record.exc_info
