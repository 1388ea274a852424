"""What ``deltaq recover`` does: shows what Redis has forgotten, and brings it back if told so."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import typer

from deltaq.tasks.broker import make_celery, ring
from deltaq.tasks.connection import connect
from deltaq.tasks.errors import DeltaqError, ResultTimeout, TransientError
from deltaq.tasks.inbox import LANES, Inbox
from deltaq.tasks.memory import Memory
from deltaq.tasks.names import check_table_name
from deltaq.tasks.request import operation_of
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea, staged_request
from deltaq.worker.found import Action, Found
from deltaq.worker.lake import Lake
from deltaq.worker.lease import Lease, Leases
from deltaq.worker.outcomes import rows_of
from deltaq.worker.recovery import Recovery

#: Exit code when a staged file cannot be read.
UNREADABLE = 1
#: Rows of the table to look at; --plain and --json print all.
_SHOWN = 50
#: Seconds between two tries to take a lease.
_PAUSE = 0.1

_PLANNED = {
    Action.SUBMIT: "to submit",
    Action.ACKNOWLEDGE: "to acknowledge and remove",
    Action.LEAVE: "known to Redis",
    Action.KEEP: "unreadable, to look at",
}
_DONE = {
    **_PLANNED,
    Action.SUBMIT: "submitted",
    Action.ACKNOWLEDGE: "acknowledged and removed",
}


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """One staged file, for people and programs."""

    table: str
    request_id: str
    operation: str | None
    rows: int | None
    age_seconds: float
    action: Action
    reason: str
    file: str


def run(
    settings: Settings,
    tables: list[str] | None,
    *,
    apply: bool,
    plain: bool,
    as_json: bool,
    timeout: float,
) -> int:
    """Show what is in the staging area, do what is to be done if told so; return the exit code.

    Args:
        settings: The settings.
        tables: Names of tables; None for all that have staged files.
        apply: Do it.
        plain: Print lines with tabs.
        as_json: Print lines of JSON.
        timeout: Seconds to wait for the lease of a table.

    Raises:
        ResultTimeout: A table was in use for longer; those before it are done.
        QueueUnavailable, StorageUnavailable, InvalidTableName: As they say.
    """
    # What it has to say is in the table.
    logging.getLogger("deltaq.worker").setLevel(logging.ERROR)
    redis = connect(settings)
    recovery = Recovery(
        Memory(redis, settings),
        Inbox(redis, settings),
        StagingArea(settings.staging_root),
        Lake(settings.lake),
        settings,
    )
    names = [check_table_name(name) for name in tables or recovery.tables()]
    counts: Counter[Action] = Counter()
    with contextlib.closing(Leases(redis, settings, holder=_holder())) as leases:
        applier = _Applier(recovery, leases, settings, timeout) if apply else None
        rows = _rows(names, recovery, applier)
        _print(_counted(rows, counts), plain=plain, as_json=as_json)
    redis.close()
    words = _DONE if apply else _PLANNED
    typer.echo(
        "; ".join(f"{counts[action]} {words[action]}" for action in Action)
        + ("" if apply else "; nothing was changed, --apply does it"),
        err=True,
    )
    return UNREADABLE if counts[Action.KEEP] else 0


class _Applier:
    """Restores tables as a worker would, and wakes the workers up."""

    def __init__(
        self, recovery: Recovery, leases: Leases, settings: Settings, timeout: float
    ) -> None:
        self._recovery = recovery
        self._leases = leases
        self._settings = settings
        self._timeout = timeout

    def restore(self, table: str) -> None:
        deadline = time.monotonic() + self._timeout
        while time.monotonic() < deadline:
            with self._leases.take(table) as lease:
                if lease is not None:
                    self._restore(lease)
                    return
            time.sleep(_PAUSE)
        raise ResultTimeout(
            f"table {table} was in use for {self._timeout:g} s; run the command again, or give "
            "it more --timeout",
            table=table,
        )

    def _restore(self, lease: Lease) -> None:
        try:
            self._recovery.restore(lease)
        finally:
            _, waiting = self._leases.release(lease, lanes=LANES, force=True)
        with contextlib.closing(make_celery(self._settings)) as celery:
            for lane in waiting:
                # Without a wake-up, a worker's sweeper finds the table within seconds.
                with contextlib.suppress(TransientError):
                    ring(celery, lease.table, lane)


def _rows(tables: Iterable[str], recovery: Recovery, applier: _Applier | None) -> Iterator[_Row]:
    for table in tables:
        rows = map(_row, recovery.look(table))
        if applier is None:
            yield from rows
        else:
            seen = list(rows)  # the files may be gone afterwards
            applier.restore(table)
            yield from seen


def _counted(rows: Iterable[_Row], counts: Counter[Action]) -> Iterator[_Row]:
    for row in rows:
        counts[row.action] += 1
        yield row


def _row(found: Found) -> _Row:
    request = found.request
    if request is None and found.action is not Action.KEEP:
        with contextlib.suppress(DeltaqError):  # removed this instant
            request = staged_request(found.path)
    return _Row(
        table=found.path.parent.name,
        request_id=found.path.stem,
        operation=operation_of(request) if request else None,
        rows=rows_of(request) if request else None,
        age_seconds=round(max(0.0, time.time() - found.staged_at), 1),
        action=found.action,
        reason=found.reason,
        file=str(found.path),
    )


def _print(rows: Iterator[_Row], *, plain: bool, as_json: bool) -> None:
    if as_json:
        for row in rows:
            typer.echo(msgspec.json.encode(row))
    elif plain or not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join("" if cell is None else str(cell) for cell in _cells(row)))
    else:
        _print_table(rows)


def _print_table(rows: Iterator[_Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("table", "request", "operation", "rows", "age", "action", "why")
    more = 0
    for row in rows:
        if table.row_count < _SHOWN:
            table.add_row(*("" if cell is None else str(cell) for cell in _cells(row)))
        else:
            more += 1
    Console().print(table)
    if more:
        typer.echo(f"... and {more} more; --plain prints all", err=True)


def _cells(row: _Row) -> tuple[Any, ...]:
    return (
        row.table,
        row.request_id,
        row.operation,
        row.rows,
        _duration(row.age_seconds),
        row.action,
        row.reason,
    )


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _holder() -> str:
    return f"deltaq-recover-{os.getpid()}@{socket.gethostname()}"
