"""What the demo prints: values in, rich tables out."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import pyarrow as pa
from rich.table import Table

from deltaq.tasks.outcome import Outcome
from deltaq.worker.demo.latency import Latencies
from deltaq.worker.demo.writers import Written


def appends(written: Sequence[Written]) -> Iterator[Table | str]:
    """Tell how many rows came in how many commits, how fast."""
    report = _table("Appends", "table", "requests", "rows", "commits", "requests/commit", "rows/s")
    for name in sorted({append.table for append in written}):
        report.add_row(name, *_counts([append for append in written if append.table == name]))
    report.add_section()
    report.add_row("all", *_counts(written))
    yield report
    submits = [append.submitted - append.called for append in written]
    waits = [append.resolved - append.called for append in written]
    yield (
        f"append() returned after {_ms(statistics.median(submits))} (median); its outcome, with "
        f"everything sent at once, after {_ms(statistics.median(waits))} (median), "
        f"{_ms(max(waits))} (longest)"
    )


def changes(outcomes: Sequence[Outcome]) -> Table:
    """Tell what the merge and the delete did."""
    report = _table(
        "Changes", "request", "version", "inserted", "updated", "deleted", "engine", "commit"
    )
    for outcome in outcomes:
        counts = (outcome.inserted, outcome.updated, outcome.deleted)
        report.add_row(
            f"{outcome.operation} {outcome.table}",
            str(outcome.version),
            *("" if number is None else f"{number:,}" for number in counts),
            outcome.engine,
            "" if outcome.commit_seconds is None else _ms(outcome.commit_seconds),
        )
    return report


def latencies(measured: Latencies) -> Iterator[Table | str]:
    """Compare one append through the queue with one made directly."""
    adds = [f"{engine} adds" for engine in measured.queued]
    report = _table("One append on an idle table, median", "how", "time", *adds)
    for engine, seconds in measured.queued.items():
        report.add_row(f"deltaq, engine {engine}", _ms(seconds))
    for how, seconds in (
        ("warm SparkSession, with txn options", measured.direct_idempotent),
        ("warm SparkSession", measured.direct),
    ):
        differences = [queued - seconds for queued in measured.queued.values()]
        report.add_row(how, _ms(seconds), *(f"{d * 1000:+,.0f} ms" for d in differences))
    yield report
    yield "The txn options make it harmless to repeat an append, as deltaq's always are."


def rows(table: pa.Table) -> Table:
    """Show a few rows."""
    report = _table("", *table.column_names)
    for row in table.to_pylist():
        report.add_row(*(str(value) for value in row.values()))
    return report


def _table(title: str, *columns: str) -> Table:
    report = Table(title=title or None, title_justify="left", caption_justify="left")
    for number, column in enumerate(columns):
        report.add_column(column, justify="right" if number else "left")
    return report


def _counts(written: Sequence[Written]) -> Iterator[str]:
    rows = sum(append.rows for append in written)
    commits = len({(append.table, append.version) for append in written})
    seconds = max(w.resolved for w in written) - min(w.called for w in written)
    yield from (f"{len(written):,}", f"{rows:,}", f"{commits:,}")
    yield from (f"{len(written) / commits:,.1f}", f"{rows / seconds:,.0f}")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
