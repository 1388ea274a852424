"""The verbs that write: append, overwrite, merge, delete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from deltaq.client.client import Client
from deltaq.client.future import Future
from deltaq.client.tabular import Format, open_rows
from deltaq.tasks.errors import ResultTimeout
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import EngineName, Lane, SchemaMode
from deltaq.tasks.verbs import WRITE, Json, Lake, RedisUrl, TableName, Timeout

app = typer.Typer()


File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="CSV, Parquet or JSON lines; - for standard input."),
]
FileFormat = Annotated[
    Format | None,
    typer.Option(help="Instead of what the file's ending says.", show_default=False),
]
PartitionBy = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Partitions a new table; repeatable.", show_default=False),
]
RequestId = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Makes it safe to run the command again.", show_default=False),
]
LaneChoice = Annotated[Lane, typer.Option(help="Queue of the table.")]
Engine = Annotated[
    EngineName | None,
    typer.Option(help="Insist on one; by default the worker chooses.", show_default=False),
]
Expires = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", help="Drop it if no worker begins in time.", show_default=False
    ),
]
SchemaModeChoice = Annotated[
    SchemaMode | None,
    typer.Option(help="merge: add columns that the table lacks.", show_default=False),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Print the request's id once it is queued, and end.")
]


@app.command(rich_help_panel=WRITE)
def append(
    table: TableName,
    file: File,
    dedupe_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Leave out rows whose values of these the table has; repeatable.",
            show_default=False,
        ),
    ] = None,
    format: FileFormat = None,
    schema_mode: SchemaModeChoice = None,
    partition_by: PartitionBy = None,
    request_id: RequestId = None,
    lane: LaneChoice = Lane.LIVE,
    engine: Engine = None,
    expires: Expires = None,
    no_wait: NoWait = False,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Append the rows of a file to a table and wait for the commit.

    Example: deltaq append prices day.csv --partition-by symbol
    """
    with Client(lake=lake, redis_url=redis_url) as client, open_rows(file, format) as rows:
        future = client.append(
            table,
            rows,
            dedupe_on=dedupe_on or None,
            schema_mode=schema_mode,
            partition_by=partition_by or None,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
            block=True,
            timeout=timeout,
        )
        _end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


@app.command(rich_help_panel=WRITE)
def overwrite(
    table: TableName,
    file: File,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Replace only these rows.", show_default=False),
    ] = None,
    format: FileFormat = None,
    schema_mode: SchemaModeChoice = None,
    partition_by: PartitionBy = None,
    request_id: RequestId = None,
    lane: LaneChoice = Lane.LIVE,
    engine: Engine = None,
    expires: Expires = None,
    no_wait: NoWait = False,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Replace all rows of a table, or those that satisfy a condition, by a file's.

    Example: deltaq overwrite prices day.csv --where "day = '2024-05-31'"
    """
    with Client(lake=lake, redis_url=redis_url) as client, open_rows(file, format) as rows:
        future = client.overwrite(
            table,
            rows,
            where=where,
            schema_mode=schema_mode,
            partition_by=partition_by or None,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
            block=True,
            timeout=timeout,
        )
        _end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


@app.command(rich_help_panel=WRITE)
def merge(
    table: TableName,
    file: File,
    key: Annotated[
        list[str],
        typer.Option(
            "--key",
            "-k",
            metavar="COLUMN",
            help="Identifies a row; repeatable.",
            show_default=False,
        ),
    ],
    update: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Update only this column of matched rows; repeatable.",
            show_default=False,
        ),
    ] = None,
    no_update: Annotated[
        bool, typer.Option("--no-update", help="Leave matched rows as they are.")
    ] = False,
    no_insert: Annotated[
        bool, typer.Option("--no-insert", help="Leave out rows that match nothing.")
    ] = False,
    delete_when: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Condition over the file's columns: delete what such a row matches.",
            show_default=False,
        ),
    ] = None,
    format: FileFormat = None,
    schema_mode: SchemaModeChoice = None,
    partition_by: PartitionBy = None,
    request_id: RequestId = None,
    lane: LaneChoice = Lane.LIVE,
    engine: Engine = None,
    expires: Expires = None,
    no_wait: NoWait = False,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Update the rows of a table whose keys match a file's, and insert the others.

    Example: deltaq merge prices fixes.csv --key symbol --key day
    """
    if update and no_update:
        raise typer.BadParameter("--update and --no-update exclude each other")
    with Client(lake=lake, redis_url=redis_url) as client, open_rows(file, format) as rows:
        future = client.merge(
            table,
            rows,
            keys=key,
            update=[] if no_update else update or None,
            insert=not no_insert,
            delete_when=delete_when,
            schema_mode=schema_mode,
            partition_by=partition_by or None,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
            block=True,
            timeout=timeout,
        )
        _end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


@app.command(rich_help_panel=WRITE)
def delete(
    table: TableName,
    where: Annotated[
        str, typer.Option(metavar="SQL", help="Rows to delete; 'true' for all.", show_default=False)
    ],
    request_id: RequestId = None,
    lane: LaneChoice = Lane.LIVE,
    engine: Engine = None,
    expires: Expires = None,
    no_wait: NoWait = False,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Delete the rows of a table that satisfy a condition.

    Example: deltaq delete prices --where "day < '2024-01-01'"
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        future = client.delete(
            table,
            where=where,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
            block=True,
            timeout=timeout,
        )
        _end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


def _end(future: Future[Outcome], *, wait: bool, timeout: float, as_json: bool) -> None:
    """Wait for the outcome and print it, or print the id."""
    if not wait:
        facts = {"request_id": future.request_id, "table": future.table, "state": State.QUEUED}
        typer.echo(msgspec.json.encode(facts) if as_json else future.request_id)
        return
    outcome = _outcome(future, timeout)
    typer.echo(msgspec.json.encode(outcome) if as_json else describe_outcome(outcome))


def _outcome(future: Future[Outcome], timeout: float) -> Outcome:
    ask = f"deltaq outcome {future.table} {future.request_id}"
    try:
        return future.result(timeout)
    except ResultTimeout as exc:
        raise ResultTimeout(
            f"no outcome of the {future.operation} within {timeout:g} s; it goes on, ask with: "
            f"{ask} --timeout 60",
            request_id=future.request_id,
            table=future.table,
        ) from exc
    except KeyboardInterrupt:
        typer.echo(f"deltaq: no longer waiting; the {future.operation} goes on: {ask}", err=True)
        raise


def describe_outcome(outcome: Outcome) -> str:
    """Say in a line what a request did to its table."""
    counts: list[tuple[Any, str]] = [
        (outcome.inserted, "inserted"),
        (outcome.updated, "updated"),
        (outcome.deleted, "deleted"),
    ]
    told = [f"{number:,} {what}" for number, what in counts if number]
    if not told and outcome.rows is not None and outcome.inserted is None:
        told = [f"{outcome.rows:,} rows brought"]
    return f"{outcome.table}: version {outcome.version}, {', '.join(told) or 'no row changed'}"
