"""The verbs that write: append, overwrite, merge, delete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltaq.client.cli_submitting import (
    Engine,
    Expires,
    LaneChoice,
    NoWait,
    PartitionBy,
    RequestId,
    end,
)
from deltaq.client.client import Client
from deltaq.client.tabular import Format, open_rows
from deltaq.tasks.request import Lane, SchemaMode
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
SchemaModeChoice = Annotated[
    SchemaMode | None,
    typer.Option(help="merge: add columns that the table lacks.", show_default=False),
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
        end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


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
        end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


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
        end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


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
        end(future, wait=not no_wait, timeout=timeout, as_json=as_json)
