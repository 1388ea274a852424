"""The command line: verbs of users here, verbs of operators by entry point."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from deltaq.client import cli_operations
from deltaq.client.client import Client
from deltaq.client.options import Json, Lake, RedisUrl, Timeout
from deltaq.client.tabular import Format, format_of, read_rows, write_rows
from deltaq.tasks.errors import (
    ConfigurationError,
    DeltaqError,
    QueueUnavailable,
    ResultTimeout,
)
from deltaq.tasks.request import Lane

#: Entry points that bring further verbs.
_GROUP = "deltaq.commands"

FAILED, USAGE, UNAVAILABLE, TIMED_OUT = 1, 2, 3, 4

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A commit queue for Delta Lake. Settings: options, DELTAQ_* variables, deltaq.toml.",
    epilog="Exit codes: 0 done, 1 the request failed, 2 usage or settings, "
    "3 queue unavailable, 4 the wait timed out (the request goes on).",
)

app.registered_commands += cli_operations.app.registered_commands
app.registered_groups += cli_operations.app.registered_groups

TableName = Annotated[str, typer.Argument(help="Name of the table.", show_default=False)]
FormatName = Annotated[
    Format | None, typer.Option(help="Instead of what the file's ending says.", show_default=False)
]


class _Options:
    """What is said before the verb."""

    debug = False


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    _Options.debug = debug


@app.command()
def append(
    table: TableName,
    file: Annotated[Path, typer.Argument(help="CSV, Parquet or JSON lines; - for stdin.")],
    format: FormatName = None,
    partition_by: Annotated[
        list[str] | None, typer.Option(help="Column to partition a new table by; repeatable.")
    ] = None,
    request_id: Annotated[
        str | None, typer.Option(help="Makes it safe to run the command again.")
    ] = None,
    lane: Annotated[Lane, typer.Option(help="Queue of the table.")] = Lane.LIVE,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Append the rows of a file to a table and wait for the commit.

    Example: deltaq append prices day.csv --partition-by symbol
    """
    rows = read_rows(file, format_of(file, format))
    with Client(lake=lake, redis_url=redis_url) as client:
        future = client.append(
            table, rows, partition_by=partition_by or None, request_id=request_id, lane=lane
        )
        outcome = future.result(timeout)
    if as_json:
        typer.echo(msgspec.json.encode(outcome))
    else:
        typer.echo(f"{table}: version {outcome.version}, {rows.num_rows:,} rows appended")


@app.command()
def read(
    table: TableName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; stdout by default.")
    ] = None,
    format: FormatName = None,
    column: Annotated[list[str] | None, typer.Option("--column", "-c", help="Repeatable.")] = None,
    where: Annotated[str | None, typer.Option(help="SQL condition on the rows.")] = None,
    version: Annotated[int | None, typer.Option(help="Version of the table.")] = None,
    timestamp: Annotated[str | None, typer.Option(help="As of this time, ISO 8601, UTC.")] = None,
    limit: Annotated[int | None, typer.Option(help="Most rows.")] = None,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Read rows of a table.

    On a terminal they are shown as a table, else as CSV.

    Example: deltaq read prices --where "symbol = 'AAPL'" -o aapl.parquet
    """
    kind = _output_format(output, Format.JSONL if as_json else format)
    with Client(lake=lake, redis_url=redis_url) as client:
        rows = client.read(
            table,
            columns=column or None,
            where=where,
            version=version,
            timestamp=timestamp,
            limit=limit,
        ).result(timeout)
    if output is None:
        write_rows(rows, kind, sys.stdout.buffer)
    else:
        with output.open("wb") as file:
            write_rows(rows, kind, file)


@app.command()
def history(
    table: TableName,
    limit: Annotated[int, typer.Option(help="Most commits.")] = 20,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """List the newest commits of a table, newest first.

    Example: deltaq history prices --limit 5
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        rows = client.history(table, limit, timeout=timeout)
    if not as_json:
        shown = ("version", "timestamp", "operation", "operationParameters", "operationMetrics")
        rows = rows.select([name for name in shown if name in rows.schema.names])
    write_rows(rows, Format.JSONL if as_json else _output_format(None, None), sys.stdout.buffer)


@app.command()
def tables(
    lake: Lake = None, redis_url: RedisUrl = None, timeout: Timeout = 60.0, as_json: Json = False
) -> None:
    """List the tables in the lake.

    Example: deltaq tables --json
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        names = client.tables(timeout=timeout)
    typer.echo(json.dumps(names) if as_json else "\n".join(names))


def _output_format(output: Path | None, given: Format | None) -> Format:
    if output is not None:
        return format_of(output, given)
    return given or (Format.TABLE if sys.stdout.isatty() else Format.CSV)


def exit_code(error: DeltaqError) -> int:
    """Choose the exit code that tells a script what kind of error it was."""
    if isinstance(error, ConfigurationError):
        return USAGE
    if isinstance(error, QueueUnavailable):
        return UNAVAILABLE
    return TIMED_OUT if isinstance(error, ResultTimeout) else FAILED


def main() -> None:
    """Run ``deltaq``."""
    # What matters to the caller is in the error, one line.
    logging.getLogger("deltaq.client").setLevel(logging.ERROR)
    _collect(app)
    try:
        app()
    except DeltaqError as exc:
        if _Options.debug:
            raise
        typer.echo(f"deltaq: {exc}", err=True)
        sys.exit(exit_code(exc))
    except ModuleNotFoundError as exc:  # by a verb of operators on a client's machine
        if _Options.debug:
            raise
        typer.echo(f"deltaq: {exc}: install it with: pip install 'deltaq[worker]'", err=True)
        sys.exit(USAGE)


def _collect(app: typer.Typer) -> None:
    for entry_point in importlib.metadata.entry_points(group=_GROUP):
        verbs: Any = entry_point.load()
        app.registered_commands.extend(verbs.registered_commands)


if __name__ == "__main__":
    main()
