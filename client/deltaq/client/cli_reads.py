"""The verbs that read: read, sql, history, tables, describe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from deltaq.client.client import Client
from deltaq.client.commits_shown import COLUMNS, shown_commits
from deltaq.client.tabular import Format, format_of, show_table, write_rows
from deltaq.client.tabular import as_json as json_of
from deltaq.tasks.verbs import READ, Json, Lake, RedisUrl, TableName, Timeout

app = typer.Typer()

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where to; by default standard output.",
        show_default=False,
    ),
]
OutputFormat = Annotated[
    Format | None,
    typer.Option(help="Instead of what the file's ending says.", show_default=False),
]


@app.command(rich_help_panel=READ)
def read(
    table: TableName,
    output: Output = None,
    format: OutputFormat = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            "-c",
            metavar="COLUMN",
            help="Read only this; repeatable.",
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Condition on the rows.", show_default=False)
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=0, help="As of this version of the table.", show_default=False)
    ] = None,
    timestamp: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="As of this time, ISO 8601, UTC.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="ROWS", min=0, help="Most rows.", show_default=False)
    ] = None,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Read rows of a table.

    On a terminal they are shown as a table, else as CSV.

    Example: deltaq read prices --where "symbol = 'AAPL'" -o aapl.parquet
    """
    kind = _format(output, Format.JSONL if as_json else format)
    with Client(lake=lake, redis_url=redis_url) as client:
        rows = client.read(
            table,
            columns=column or None,
            where=where,
            version=version,
            timestamp=timestamp,
            limit=limit,
        ).result(timeout)
    _write(rows, kind, output)


@app.command(rich_help_panel=READ)
def sql(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="One SELECT over tables of the lake.")
    ],
    output: Output = None,
    format: OutputFormat = None,
    max_rows: Annotated[
        int, typer.Option(min=0, metavar="ROWS", help="A larger result is an error.")
    ] = 1_000_000,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Run a SELECT over any tables, which it names.

    On a terminal the rows are shown as a table, else as CSV. It cannot change anything.

    Example: deltaq sql "select symbol, sum(qty) as qty from trades group by symbol"
    """
    kind = _format(output, Format.JSONL if as_json else format)
    with Client(lake=lake, redis_url=redis_url) as client:
        rows = client.sql(query, max_rows=max_rows).result(timeout)
    _write(rows, kind, output)


def _write(rows: pa.Table, kind: Format, output: Path | None) -> None:
    if output is None:
        write_rows(rows, kind, sys.stdout.buffer)
    else:
        with output.open("wb") as file:
            write_rows(rows, kind, file)
        typer.echo(f"{rows.num_rows:,} rows in {output}", err=True)


def _format(output: Path | None, given: Format | None) -> Format:
    if output is not None:
        return format_of(output, given)
    if given is Format.PARQUET and sys.stdout.isatty():
        raise typer.BadParameter("Parquet is not for a terminal: name a file with --output")
    return given or (Format.TABLE if sys.stdout.isatty() else Format.CSV)


@app.command(rich_help_panel=READ)
def history(
    table: TableName,
    limit: Annotated[int, typer.Option(min=1, metavar="COMMITS", help="Most commits.")] = 20,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """List the newest commits of a table, newest first.

    On a terminal: rows added (+), updated (~) and deleted (-), who submitted them, and the id of the
    request, or how many there were. Else as CSV, with all that Delta tells.

    Example: deltaq history prices --limit 5
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        rows: pa.Table = client.history(table, limit, timeout=timeout)
    if sys.stdout.isatty() and not as_json:
        aligned = [True, False, False, True, False, False]
        # On a narrow terminal the others are folded: rows, users, ids.
        show_table(COLUMNS, shown_commits(rows), aligned, whole=3)
    else:
        write_rows(rows, Format.JSONL if as_json else Format.CSV, sys.stdout.buffer)


@app.command(rich_help_panel=READ)
def tables(
    lake: Lake = None, redis_url: RedisUrl = None, timeout: Timeout = 60.0, as_json: Json = False
) -> None:
    """List the tables in the lake.

    Example: deltaq tables --json
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        names = client.tables(timeout=timeout)
    if as_json:
        typer.echo(json.dumps(names))
    elif names:
        typer.echo("\n".join(names))
    else:
        typer.echo("no tables yet: the first append makes one", err=True)


@app.command(rich_help_panel=READ)
def describe(
    table: TableName,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Describe a table: version, columns, partitions, files, bytes, properties.

    Example: deltaq describe prices
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        detail = client.detail(table, timeout=timeout)
    if as_json:
        typer.echo(json_of(detail))
        return
    schema = detail.pop("schema")
    for name, value in detail.items():
        if value not in (None, [], {}):
            typer.echo(f"{name}: {_told(value)}")
    show_table(["column", "type", "null"], map(_column, schema))


def _told(value: Any) -> str:
    match value:
        case list() if all(isinstance(item, str) for item in value):
            return ", ".join(value)
        case list() | dict():
            return json_of(value)
        case int() if not isinstance(value, bool):
            return f"{value:,}"
    return str(value)


def _column(field: dict[str, Any]) -> list[str]:
    kind = field["type"]
    told = kind if isinstance(kind, str) else json_of(kind)
    return [field["name"], told, "yes" if field["nullable"] else "no"]
