"""The verbs of operators that need no worker: status, dead letters, redrive."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer

from deltaq.client.client import Client
from deltaq.client.dead_letters import DeadLetter, find_dead_letter
from deltaq.client.options import Json, Lake, RedisUrl, Timeout
from deltaq.client.tabular import Format, write_rows
from deltaq.tasks.errors import DeltaqError, ResultTimeout
from deltaq.tasks.staging import StagingArea
from deltaq.tasks.status import TableStatus

app = typer.Typer()
dead_letters = typer.Typer(
    invoke_without_command=True,
    help="List and show the requests that were given up.",
)
app.add_typer(dead_letters, name="dead-letters")
app.add_typer(dead_letters, name="dead", hidden=True)

Table = Annotated[str | None, typer.Option(help="Only those of this table.")]

#: Characters of an error in a list.
_SHOWN = 100


@app.command()
def status(lake: Lake = None, redis_url: RedisUrl = None, as_json: Json = False) -> None:
    """Show the tables for which requests wait, and what keeps them from going on.

    Example: deltaq status --json
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        found = client.status()
    if as_json:
        typer.echo(msgspec.json.encode(found))
    for table in () if as_json else found:
        typer.echo(_line(table))
    if not found and not as_json:
        typer.echo("no requests wait", err=True)


def _line(status: TableStatus) -> str:
    waiting = ", ".join(f"{lane.requests:,} {name}" for name, lane in status.lanes.items())
    size_bytes = sum(lane.size_bytes for lane in status.lanes.values())
    oldest = max(lane.oldest_seconds for lane in status.lanes.values())
    parts = [
        f"{status.table}: {waiting}",
        f"{size_bytes / (1 << 20):,.1f} MiB",
        f"oldest {oldest:,.0f} s",
        f"held by {status.holder}" if status.holder else "nobody is at it",
    ]
    if retrying := status.retrying:
        parts.append(
            f"failed {retrying.tries} times in {retrying.since_seconds:,.0f} s, next try in "
            f"{retrying.next_seconds:,.0f} s: {_short(retrying.error)}"
        )
    return "; ".join(parts)


@dead_letters.callback()
def dead_letters_listed(
    context: typer.Context, table: Table = None, lake: Lake = None, as_json: Json = False
) -> None:
    """List the requests that were given up, oldest first.

    Example: deltaq dead-letters --table prices
    """
    if context.invoked_subcommand is None:
        list_dead_letters(table=table, lake=lake, as_json=as_json)


@dead_letters.command("list")
def list_dead_letters(table: Table = None, lake: Lake = None, as_json: Json = False) -> None:
    """List the requests that were given up, oldest first.

    Example: deltaq dead-letters list --table prices --json
    """
    with Client(lake=lake) as client:
        letters = client.dead_letters(table)
    for letter in letters:
        if as_json:
            typer.echo(msgspec.json.encode(_facts(letter)))
        else:
            reason = letter.problem or (letter.error.message if letter.error else "")
            typer.echo(
                f"{letter.buried_at:%Y-%m-%d %H:%M:%S}  {letter.table}  {letter.request_id}  "
                f"{letter.operation or 'unreadable'}  {_short(reason)}"
            )
    if not letters:
        typer.echo("no dead letters", err=True)


@dead_letters.command("show")
def show_dead_letter(
    request_id: Annotated[str, typer.Argument(help="Id of the request.", show_default=False)],
    table: Table = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows to show.")] = 10,
    lake: Lake = None,
    as_json: Json = False,
) -> None:
    """Show why a request was given up, what it asked for, its schema and first rows.

    Example: deltaq dead-letters show 01926f3ab7c17e0e8d6f5b1c2d3e4f50
    """
    with Client(lake=lake) as client:
        letter = find_dead_letter(StagingArea(client.settings.staging_root), request_id, table)
    frame = letter.rows(rows) if letter.request else None
    if as_json:
        schema = [[f.name, str(f.type)] for f in frame.schema] if frame else None
        typer.echo(msgspec.json.encode({**_facts(letter), "schema": schema}))
        return
    facts = _facts(letter)
    for name in ("table", "request_id", "operation", "buried_at", "size_bytes", "path", "problem"):
        if facts[name] is not None:
            typer.echo(f"{name}: {facts[name]}")
    if letter.error:
        typer.echo(f"error: {letter.error.message} [{letter.error.code}]")
    if letter.request:
        typer.echo(f"request: {msgspec.json.encode(letter.request).decode()}")
    if frame is not None and frame.num_columns:
        typer.echo("schema: " + ", ".join(f"{f.name} {f.type}" for f in frame.schema))
        sys.stdout.flush()
        write_rows(frame, Format.TABLE, sys.stdout.buffer)


@app.command()
def redrive(
    request_id: Annotated[
        list[str] | None, typer.Argument(help="Ids of requests.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    table: Table = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
) -> None:
    """Submit dead letters anew, each under its own id, and wait for what comes of them.

    Example: deltaq redrive --table prices --dry-run
    """
    if not request_id and not everything and table is None:
        raise typer.BadParameter("say which: ids, --table or --all")
    with Client(lake=lake, redis_url=redis_url) as client:
        letters = (
            [
                find_dead_letter(StagingArea(client.settings.staging_root), i, table)
                for i in request_id
            ]
            if request_id
            else client.dead_letters(table)
        )
        if dry_run:
            for letter in letters:
                typer.echo(f"{_name(letter)}: {letter.problem or 'would be submitted anew'}")
            return
        futures = client.redrive(letters)
        errors = []
        for letter, future in zip(letters, futures, strict=True):
            try:
                outcome = future.result(timeout)
            except DeltaqError as exc:
                errors.append(exc)
                typer.echo(f"{_name(letter)}: {exc}", err=True)
            else:
                typer.echo(f"{_name(letter)}: {outcome.state} in version {outcome.version}")
    if not letters:
        typer.echo("no dead letters", err=True)
    if errors:
        raise typer.Exit(4 if all(isinstance(e, ResultTimeout) for e in errors) else 1)


def _name(letter: DeadLetter) -> str:
    return f"{letter.table} {letter.request_id}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return {
        "table": letter.table,
        "request_id": letter.request_id,
        "operation": letter.operation,
        "buried_at": letter.buried_at.isoformat(timespec="seconds"),
        "size_bytes": letter.size_bytes,
        "path": str(letter.path),
        "error": letter.error,
        "problem": letter.problem,
        "request": letter.request,
    }
