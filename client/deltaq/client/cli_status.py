"""The verb ``deltaq status``."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deltaq.client.look import Look, Watcher
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.settings import load_settings
from deltaq.tasks.status import TableStatus
from deltaq.tasks.verbs import QUEUE, Json, Lake, RedisUrl

app = typer.Typer()

_COLUMNS = ("table", "live", "bulk", "maint.", "oldest", "MiB", "done/s", "held by", "last error")
#: Lines of the screen that are no tables: summary, heading, rule, a line for the rest.
_OTHER_LINES = 7
#: Characters of an error in a line.
_SHOWN = 100


@app.command(rich_help_panel=QUEUE)
def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Between two looks.")
    ] = 1.0,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    """Show the tables for which requests wait, and what keeps them from going on.

    With --watch those that were just served stay in the list, with how fast they were.

    Example: deltaq status --watch
    """
    with Watcher(load_settings(lake=lake, redis_url=redis_url)) as watcher:
        if not watch:
            _print(watcher.look(), as_json=as_json)
            return
        with contextlib.suppress(KeyboardInterrupt):  # how one leaves
            if sys.stdout.isatty() and not as_json:
                _show(watcher, interval)
            for look in _looks(watcher, interval):
                _print(look, as_json=as_json, clock=True)


def _looks(watcher: Watcher, interval: float) -> Iterator[Look]:
    """Look for ever; while Redis is down, say so and go on."""
    while True:
        try:
            yield watcher.look()
        except DeltaqError as exc:
            yield Look(problem=str(exc))
        sys.stdout.flush()
        time.sleep(interval)


def _print(look: Look, *, as_json: bool, clock: bool = False) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(look if clock else look.tables))
        return
    now = f"{time.strftime('%H:%M:%S')} " if clock else ""
    for table in look.tables:
        typer.echo(f"{now}{_line(table, look.rates.get(table.table))}")
    if look.problem:
        typer.echo(f"{now}{look.problem}", err=True)
    elif not look.tables:
        typer.echo(f"{now}no requests wait", err=True)
    if look.dead_letters:
        typer.echo(f"{now}{_dead(look)}", err=True)


def _show(watcher: Watcher, interval: float) -> None:
    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        for look in _looks(watcher, interval):
            live.update(_screen(look, room=console.size.height - _OTHER_LINES), refresh=True)


def _screen(look: Look, *, room: int) -> Group:
    """Draw a look: those that wait longest come first, and what has no room is counted."""
    tables = sorted(look.tables, key=lambda t: (-_oldest(t), t.table))
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, expand=True)
    for column in _COLUMNS:
        right = column not in ("table", "held by", "last error")
        drawn.add_column(
            column, justify="right" if right else "left", no_wrap=True, overflow="ellipsis"
        )
    for table in tables[: max(1, room)]:
        drawn.add_row(*map(Text, _cells(table, look.rates.get(table.table))))
    more = len(tables) - max(1, room)
    return Group(
        Text(_summary(look)),
        drawn,
        Text(f"... and {more:,} more tables" if more > 0 else ""),
        Text("Ctrl-C ends", style="dim"),
    )


def _summary(look: Look) -> str:
    if look.problem:
        return look.problem
    lanes = [lane for table in look.tables for lane in table.lanes.values()]
    parts = [
        f"{time.strftime('%H:%M:%S')}  requests: {sum(lane.requests for lane in lanes):,}",
        f"tables: {sum(bool(t.lanes) for t in look.tables):,}",
        f"{sum(lane.size_bytes for lane in lanes) / (1 << 20):,.1f} MiB",
        f"{sum(look.rates.values()):,.0f} done/s",
    ]
    return ", ".join([*parts, *([_dead(look)] if look.dead_letters else [])])


def _dead(look: Look) -> str:
    return f"dead letters: {look.dead_letters:,} (deltaq dead-letters)"


def _cells(status: TableStatus, rate: float | None) -> Sequence[str]:
    waiting = {lane.value: found for lane, found in status.lanes.items()}
    depths = (
        f"{waiting[lane].requests:,}" if lane in waiting else ""
        for lane in ("live", "bulk", "maintenance")
    )
    size_bytes = sum(lane.size_bytes for lane in status.lanes.values())
    return (
        status.table,
        *depths,
        f"{_oldest(status):,.1f} s" if status.lanes else "",
        f"{size_bytes / (1 << 20):,.1f}",
        "" if rate is None else f"{rate:,.0f}",
        status.holder or "",
        f"{status.retrying.tries} x {_short(status.retrying.error)}" if status.retrying else "",
    )


def _oldest(status: TableStatus) -> float:
    return max((lane.oldest_seconds for lane in status.lanes.values()), default=0.0)


def _line(status: TableStatus, rate: float | None) -> str:
    done = [] if rate is None else [f"{rate:,.0f} done/s"]
    if not status.lanes:
        return "; ".join([f"{status.table}: none wait", *done])
    waiting = ", ".join(f"{lane.requests:,} {name}" for name, lane in status.lanes.items())
    size_bytes = sum(lane.size_bytes for lane in status.lanes.values())
    parts = [
        f"{status.table}: {waiting}",
        f"{size_bytes / (1 << 20):,.1f} MiB",
        f"oldest {_oldest(status):,.0f} s",
        *done,
        f"held by {status.holder}" if status.holder else "nobody is at it",
    ]
    if retrying := status.retrying:
        parts.append(
            f"failed {retrying.tries} times in {retrying.since_seconds:,.0f} s, next try in "
            f"{retrying.next_seconds:,.0f} s: {_short(retrying.error)}"
        )
    return "; ".join(parts)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
