"""The verbs about requests that were given up: dead-letters, redrive."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer

from deltaq.client.client import Client
from deltaq.client.dead_letters import DeadLetter, find_dead_letter
from deltaq.client.future import Future
from deltaq.client.tabular import Format, write_rows
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.staging import StagingArea
from deltaq.tasks.verbs import (
    QUEUE,
    Code,
    Json,
    Lake,
    OnlyTable,
    RedisUrl,
    Timeout,
    exit_code,
    facts_of,
)

app = typer.Typer()
dead_letters = typer.Typer(
    invoke_without_command=True,
    help="List and show the requests that were given up.",
)
app.add_typer(dead_letters, name="dead-letters", rich_help_panel=QUEUE)
app.add_typer(dead_letters, name="dead", hidden=True)

#: Characters of an error in a list.
_SHOWN = 100


@dead_letters.callback()
def dead_letters_listed(
    context: typer.Context, table: OnlyTable = None, lake: Lake = None, as_json: Json = False
) -> None:
    """List the requests that were given up, oldest first.

    Example: deltaq dead-letters --table prices
    """
    if context.invoked_subcommand is None:
        list_dead_letters(table=table, lake=lake, as_json=as_json)


@dead_letters.command("list")
def list_dead_letters(table: OnlyTable = None, lake: Lake = None, as_json: Json = False) -> None:
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
    request_id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the request.", show_default=False)
    ],
    table: OnlyTable = None,
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


@app.command(rich_help_panel=QUEUE)
def redrive(
    request_id: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Ids of requests.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    table: OnlyTable = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Submit dead letters anew, each under its own id, and wait for what comes of them.

    Example: deltaq redrive --table prices --dry-run
    """
    if not request_id and not everything and table is None:
        raise typer.BadParameter("say which: ids, --table or --all")
    with Client(lake=lake, redis_url=redis_url) as client:
        letters = _chosen(client, request_id, table)
        if dry_run:
            for letter in letters:
                _say(letter, letter.problem or "would be submitted anew", as_json=as_json)
            return
        futures = client.redrive(letters)
        codes = [
            _settled(letter, future, timeout, as_json=as_json)
            for letter, future in zip(letters, futures, strict=True)
        ]
    if not letters:
        typer.echo("no dead letters", err=True)
    raise typer.Exit(_worst(codes))


def _chosen(client: Client, ids: list[str] | None, table: str | None) -> list[DeadLetter]:
    if not ids:
        return client.dead_letters(table)
    staging = StagingArea(client.settings.staging_root)
    return [find_dead_letter(staging, request_id, table) for request_id in ids]


def _settled(letter: DeadLetter, future: Future[Outcome], timeout: float, *, as_json: bool) -> Code:
    """Wait for what comes of a dead letter and say it."""
    try:
        outcome = future.result(timeout)
    except DeltaqError as exc:
        facts = {"table": letter.table, "request_id": letter.request_id, "error": facts_of(exc)}
        if as_json:
            typer.echo(msgspec.json.encode(facts))
        else:
            typer.echo(f"{_name(letter)}: {exc}", err=True)
        return exit_code(exc)
    if as_json:
        typer.echo(msgspec.json.encode(outcome))
    else:
        typer.echo(f"{_name(letter)}: {outcome.state} in version {outcome.version}")
    return Code.DONE


def _worst(codes: list[Code]) -> Code:
    """Choose what tells most: what failed for good, then what did not go, then what goes on."""
    order = (Code.FAILED, Code.USAGE, Code.UNAVAILABLE, Code.TIMED_OUT)
    return next((code for code in order if code in codes), Code.DONE)


def _say(letter: DeadLetter, what: str, *, as_json: bool) -> None:
    if as_json:
        facts = {"table": letter.table, "request_id": letter.request_id, "plan": what}
        typer.echo(msgspec.json.encode(facts))
    else:
        typer.echo(f"{_name(letter)}: {what}")


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
