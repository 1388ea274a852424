"""The verbs ``deltaq status`` and ``deltaq top``."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Collection
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.live import Live

from deltaq.client.look import Look, Watcher
from deltaq.client.overview import (
    MiB,
    Order,
    age_of,
    bytes_of,
    counted,
    draw,
    shortened,
    told_of_workers,
)
from deltaq.tasks.settings import load_settings
from deltaq.tasks.status import TableStatus
from deltaq.tasks.verbs import QUEUE, Json, Lake, RedisUrl

app = typer.Typer()

#: Characters of an error in a line.
_SHOWN = 100
_KEYS = {"a": Order.AGE, "d": Order.DEPTH, "r": Order.RATE}

Interval = Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Between two looks.")]


@app.command(rich_help_panel=QUEUE)
def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again until Ctrl-C.")] = False,
    interval: Interval = 1.0,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    """Show the tables for which requests wait, what keeps them from going on, and the workers.

    With --watch those that were just served stay in the list, with how fast they were.

    Example: deltaq status --watch
    """
    with Watcher(load_settings(lake=lake, redis_url=redis_url)) as watcher:
        if not watch:
            look = watcher.look()
            if as_json:
                typer.echo(msgspec.json.encode(look.tables))
            else:
                _print(look)
            return
        with contextlib.suppress(KeyboardInterrupt):  # how one leaves
            if as_json or not sys.stdout.isatty():
                _print_again(watcher, interval, as_json=as_json)
            _redraw(watcher, interval)


@app.command(rich_help_panel=QUEUE)
def top(
    interval: Interval = 1.0,
    sort: Annotated[Order, typer.Option(help="Which tables come first.")] = Order.AGE,
    lake: Lake = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show on the whole screen how the system is: totals, workers, and the tables behind most.

    The keys a, d and r order by age, depth and rate; q quits. Where standard output is no
    terminal, it prints what status --watch does: what has changed since the last look.

    Example: deltaq top --sort depth
    """
    with (
        Watcher(load_settings(lake=lake, redis_url=redis_url)) as watcher,
        contextlib.suppress(KeyboardInterrupt),
    ):
        if not sys.stdout.isatty():
            _print_again(watcher, interval, as_json=False)
        _take_screen(watcher, interval, sort)


def _redraw(watcher: Watcher, interval: float) -> NoReturn:
    """Draw over the last look; the last of all stays when one leaves."""
    console = Console()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            look = watcher.look_or_tell()
            width, height = console.size
            drawn = draw(look, width=width, height=height - 1, order=Order.AGE, keys="Ctrl-C ends")
            live.update(drawn, refresh=True)
            time.sleep(interval)


def _take_screen(watcher: Watcher, interval: float, order: Order) -> None:
    """Draw on a screen of its own until q is pressed."""
    from deltaq.client.keyboard import keyboard  # Windows has none

    console = Console()
    with keyboard() as key_within, Live(console=console, screen=True, auto_refresh=False) as live:
        key = ""
        while key != "q":
            look = watcher.look_or_tell()
            due = time.monotonic() + interval
            while True:
                order = _KEYS.get(key, order)
                width, height = console.size
                keys = f"by {order}; a age, d depth, r rate, q quit"
                drawn = draw(look, width=width, height=height, order=order, keys=keys)
                live.update(drawn, refresh=True)
                key = key_within(due - time.monotonic())
                if key in ("", "q") or time.monotonic() >= due:
                    break


def _print_again(watcher: Watcher, interval: float, *, as_json: bool) -> NoReturn:
    """Print each look as JSON, or what it tells that the last one did not."""
    told: set[str] = set()
    while True:
        look = watcher.look_or_tell()
        if as_json:
            typer.echo(msgspec.json.encode(look))
        else:
            told = _print(look, told=told, clock=f"{time.strftime('%H:%M:%S')} ")
        sys.stdout.flush()
        time.sleep(interval)


def _print(look: Look, *, told: Collection[str] = (), clock: str = "") -> set[str]:
    """Print what was not told already, and return all that there was to tell."""
    tables = [_line(table, look.rates.get(table.table)) for table in look.tables]
    words = _words(look)
    for number, line in enumerate([*tables, *words]):
        if line not in told:
            typer.echo(f"{clock}{line}", err=number >= len(tables))
    return {*tables, *words}


def _words(look: Look) -> list[str]:
    if look.problem:
        return [look.problem]
    idle = [] if look.tables else ["no requests wait"]
    dead = [f"{counted(look.dead_letters, 'dead letter')} (deltaq dead-letters)"]
    unseen = [look.unseen] if look.unseen else []
    told = told_of_workers(look.workers)
    return [*idle, *told, *(dead if look.dead_letters else []), *unseen]


def _line(status: TableStatus, rate: float | None) -> str:
    done = [] if rate is None else [f"{rate:,.0f} done/s"]
    if not status.lanes:
        return "; ".join([f"{status.table}: none wait", *done])
    waiting = ", ".join(f"{lane.requests:,} {name}" for name, lane in status.lanes.items())
    parts = [
        f"{status.table}: {waiting}",
        f"{bytes_of(status) / MiB:,.1f} MiB",
        f"oldest {age_of(status):,.0f} s",
        *done,
        f"held by {status.holder}" if status.holder else "nobody is at it",
    ]
    if slices := status.slices:
        parts.append(f"{slices.operation}: {slices.done:,} of {slices.total:,} done")
    if retrying := status.retrying:
        parts.append(
            f"failed {retrying.tries} times in {retrying.since_seconds:,.0f} s, next try in "
            f"{retrying.next_seconds:,.0f} s: {shortened(retrying.error, _SHOWN)}"
        )
    return "; ".join(parts)
