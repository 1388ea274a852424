"""What the demo does, step by step."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deltaq.client import Client
from deltaq.tasks.outcome import Outcome
from deltaq.worker.demo import report
from deltaq.worker.demo.checks import check_log, check_rows
from deltaq.worker.demo.data import (
    BARS,
    INDICES,
    KEYS,
    STOCKS,
    load_datasets,
    make_corrections,
    make_parts,
)
from deltaq.worker.demo.latency import Latencies, measure_latencies, rounds
from deltaq.worker.demo.writers import Written, run_writers
from deltaq.worker.system import System, embedded

#: Seconds to wait for the workers' start, and for one request or read.
_START_WITHIN = 180.0
_ANSWER_WITHIN = 180.0
#: Commits to look back at: more than the demo makes.
_ALL = 100_000
#: Bars with less volume are deleted as errors of measurement.
_LEAST_VOLUME = 100
_TOO_SMALL = f"volume < {_LEAST_VOLUME}"
#: Rows in each append whose latency is measured.
_LATENCY_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class Options:
    """What can be chosen.

    Attributes:
        lake: Folder for the tables, which must not hold those of another demo.
        rows: Bars to generate.
        writers: Processes that append.
        workers: Worker processes that commit.
    """

    lake: Path
    rows: int
    writers: int
    workers: int


def run_demo(options: Options, console: Console) -> None:
    """Run the demo and print what happened.

    No process is left when this returns or raises.

    Raises:
        CheckFailed: A table or its log is not what was written.
        WriterDied: A writer process failed.
        DeltaqError: The system does not start, or a request failed.
    """
    with _step(console, "load and generate data"):
        data = load_datasets(options.rows)
    with embedded(options.lake, workers=options.workers) as system, system.client() as client:
        with _step(console, "start Redis, workers and Spark"):
            system.wait_ready(_START_WITHIN)
        written = _append_all(data, system, options, console)
        changes = _change(data, client, written, console)
        _check_logs(data, client, written, changes, console)
        latencies = _measure(data, client, system, console)
    for part in (*report.appends(written), report.changes(changes), *report.latencies(latencies)):
        console.print(part)


def _append_all(
    data: Mapping[str, pa.Table], system: System, options: Options, console: Console
) -> list[Written]:
    written: list[Written] = []
    with tempfile.TemporaryDirectory(prefix="deltaq-demo-") as folder:
        parts = make_parts(data, Path(folder))
        step = f"append {len(parts)} frames from {options.writers} processes"
        with _step(console, step, total=sum(t.num_rows for t in data.values())) as advance:

            def on_written(append: Written) -> None:
                written.append(append)
                advance(append.rows)

            run_writers(parts, count=options.writers, env=system.env, on_written=on_written)
    return written


def _change(
    data: Mapping[str, pa.Table], client: Client, written: Sequence[Written], console: Console
) -> list[Outcome]:
    """Correct, delete, travel in time; compare what is read with what it must be."""
    bars = data[BARS]
    corrected, late = make_corrections(bars)
    before = max(append.version or 0 for append in written if append.table == BARS)
    with _step(console, f"merge {corrected.num_rows:,} corrected and {late.num_rows:,} late bars"):
        merge = client.merge(BARS, pa.concat_tables([corrected, late]), keys=KEYS)
        merged = merge.result(_ANSWER_WITHIN)
    with _step(console, f"delete bars where {_TOO_SMALL}"):
        deleted = client.delete(BARS, where=_TOO_SMALL).result(_ANSWER_WITHIN)
    with _step(console, f"read {BARS} as of version {before}: every row as it was sent"):
        read = client.read(BARS, version=before).result(_ANSWER_WITHIN)
        check_rows(f"{BARS} at version {before}", read, bars)
    with _step(console, "read all tables: every row once, prices corrected"):
        untouched = bars.join(corrected.select(KEYS), list(KEYS), join_type="left anti")
        expected = pa.concat_tables([untouched.select(bars.column_names), corrected, late])
        expected = expected.filter(pc.greater_equal(expected["volume"], _LEAST_VOLUME))
        check_rows(BARS, client.read(BARS).result(_ANSWER_WITHIN), expected)
        for name in (INDICES, STOCKS):
            check_rows(name, client.read(name).result(_ANSWER_WITHIN), data[name])
    _read_selectively(data[INDICES], client, console)
    return [merged, deleted]


def _read_selectively(indices: pa.Table, client: Client, console: Console) -> None:
    columns = [*KEYS, "close"]
    where = "symbol = '^GSPC' AND close > 2900"
    mask = pc.and_(pc.equal(indices["symbol"], "^GSPC"), pc.greater(indices["close"], 2900))
    expected = indices.filter(mask).select(columns)
    with _step(console, f"read {INDICES} where {where}"):
        read = client.read(INDICES, columns=columns, where=where).result(_ANSWER_WITHIN)
        check_rows(f"{INDICES} where {where}", read, expected)
        some = client.read(INDICES, columns=columns, where=where, limit=3).result(_ANSWER_WITHIN)
    console.print(report.rows(some))


def _check_logs(
    data: Mapping[str, pa.Table],
    client: Client,
    written: Sequence[Written],
    changes: Sequence[Outcome],
    console: Console,
) -> None:
    with _step(console, "read the Delta logs: every request once, in sequence"):
        for name in data:
            sent = [append.request_id for append in written if append.table == name]
            sent += [change.request_id for change in changes if change.table == name]
            history = client.history(name, limit=_ALL)
            check_log(name, history, sent)


def _measure(
    data: Mapping[str, pa.Table], client: Client, system: System, console: Console
) -> Latencies:
    frame = data[BARS].slice(0, _LATENCY_ROWS)
    step = f"time appends of {frame.num_rows:,} rows, queued and direct"
    with _step(console, step, total=rounds()) as advance:
        return measure_latencies(client, system.settings, frame, progress=lambda: advance(1))


class _Advance:
    """Moves the bar of a step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.task_ids[0]

    def __call__(self, steps: int) -> None:
        self._progress.advance(self._task, steps)


@contextmanager
def _step(console: Console, text: str, *, total: int | None = None) -> Iterator[_Advance]:
    """Show a step while it runs, and how long it took when it is done."""
    columns = [TextColumn("  {task.description}"), BarColumn(bar_width=12), TimeElapsedColumn()]
    if total is not None:
        columns.insert(2, MofNCompleteColumn())
    began = time.monotonic()
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        progress.add_task(text, total=total)
        yield _Advance(progress)
    console.print(f"[green]✓[/green] {text} [dim]{time.monotonic() - began:.1f} s[/dim]")
