"""The verbs for whole tables: create, restore, optimize, vacuum, drop."""

from __future__ import annotations

from typing import Annotated

import typer

from deltaq.client.cli_submitting import (
    Engine,
    Expires,
    LaneChoice,
    NoWait,
    PartitionBy,
    RequestId,
    awaited,
    end,
)
from deltaq.client.client import Client
from deltaq.tasks.request import SAFE_RETENTION_HOURS, Lane
from deltaq.tasks.verbs import TABLE, Json, Lake, RedisUrl, TableName, Timeout

app = typer.Typer()


@app.command(rich_help_panel=TABLE)
def create(
    table: TableName,
    column: Annotated[
        list[str],
        typer.Option(
            "--column",
            "-c",
            metavar="'NAME TYPE'",
            help="As in SQL, 'price decimal(10, 2)' or 'symbol string not null'; repeatable.",
            show_default=False,
        ),
    ],
    partition_by: PartitionBy = None,
    property: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Of Delta, or your own; repeatable.", show_default=False
        ),
    ] = None,
    comment: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the table is.", show_default=False)
    ] = None,
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
    """Create a table without rows; the first append makes one, too, of the file's columns.

    Example: deltaq create trades -c "symbol string not null" -c "qty bigint"
    """
    schema = named_types(column)
    with Client(lake=lake, redis_url=redis_url) as client:
        future = client.create(
            table,
            schema,
            partition_by=partition_by or None,
            properties=dict(map(_property, property or [])),
            comment=comment,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
            block=True,
            timeout=timeout,
        )
        end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


@app.command(rich_help_panel=TABLE)
def restore(
    table: TableName,
    version: Annotated[
        int | None, typer.Option(min=0, help="Version to bring back.", show_default=False)
    ] = None,
    timestamp: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Bring back what was there at this time, ISO 8601, UTC.",
            show_default=False,
        ),
    ] = None,
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
    """Make a table again what it was; the versions since then stay in its history.

    Example: deltaq restore prices --version 3
    """
    if (version is None) == (timestamp is None):
        raise typer.BadParameter("give either --version or --timestamp")
    with Client(lake=lake, redis_url=redis_url) as client:
        future = client.restore(
            table,
            version=version,
            timestamp=timestamp,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
            block=True,
            timeout=timeout,
        )
        end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


@app.command(rich_help_panel=TABLE)
def optimize(
    table: TableName,
    zorder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Order all rows along it, so that reads skip more files; repeatable.",
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Only partitions for which it holds; it names no other columns.",
            show_default=False,
        ),
    ] = None,
    target_bytes: Annotated[
        int | None,
        typer.Option(
            metavar="BYTES",
            min=1,
            help="Which files are small, and how large they become.",
            show_default=False,
        ),
    ] = None,
    request_id: RequestId = None,
    lane: LaneChoice = Lane.MAINTENANCE,
    engine: Engine = None,
    expires: Expires = None,
    no_wait: NoWait = False,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 600.0,
    as_json: Json = False,
) -> None:
    """Compact the small files of a table; its rows stay as they are.

    Example: deltaq optimize prices --where "day < '2024-06-01'"
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        future = client.optimize(
            table,
            zorder=zorder or None,
            where=where,
            target_bytes=target_bytes,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
            block=True,
            timeout=timeout,
        )
        end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


@app.command(rich_help_panel=TABLE)
def vacuum(
    table: TableName,
    retention_hours: Annotated[
        int, typer.Option(min=0, metavar="HOURS", help="Keep the versions of so many hours.")
    ] = SAFE_RETENTION_HOURS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the files, 1,000 at most.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help=f"Allow less than {SAFE_RETENTION_HOURS} hours: nobody else uses it."
        ),
    ] = False,
    request_id: RequestId = None,
    lane: LaneChoice = Lane.MAINTENANCE,
    engine: Engine = None,
    expires: Expires = None,
    no_wait: NoWait = False,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 600.0,
    as_json: Json = False,
) -> None:
    """Remove the files that no version of the last hours needs; older versions are gone then.

    Example: deltaq vacuum prices --dry-run
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        future = client.vacuum(
            table,
            retention_hours=retention_hours,
            dry_run=dry_run,
            force=force,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
            block=True,
            timeout=timeout,
        )
        if not dry_run or no_wait or as_json:
            end(future, wait=not no_wait, timeout=timeout, as_json=as_json)
            return
        told = awaited(future, timeout).value
    for file in told["listed"]:
        typer.echo(file)
    typer.echo(
        f"{table}: {told['files']:,} files of {told['size_bytes']:,} bytes would be removed",
        err=True,
    )


@app.command(rich_help_panel=TABLE)
def drop(
    table: TableName,
    confirm: Annotated[
        str, typer.Option(metavar="TABLE", help="The name once more.", show_default=False)
    ],
    request_id: RequestId = None,
    lane: LaneChoice = Lane.LIVE,
    expires: Expires = None,
    no_wait: NoWait = False,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Remove a table with all its versions, for good, behind what is queued for it.

    Example: deltaq drop prices --confirm prices
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        future = client.drop(
            table,
            confirm=confirm,
            request_id=request_id,
            lane=lane,
            expires=expires,
            block=True,
            timeout=timeout,
        )
        end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


def named_types(columns: list[str]) -> dict[str, str]:
    """Read columns as they are given on the command line."""
    schema = dict(map(_column, columns))
    if len(schema) < len(columns):
        raise typer.BadParameter("two columns have the same name", param_hint="--column")
    return schema


def _column(text: str) -> tuple[str, str]:
    match text.split(None, 1):
        case [name, kind]:
            return name, kind
    raise typer.BadParameter(f"{text!r} is no 'NAME TYPE'", param_hint="--column")


def _property(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise typer.BadParameter(f"{text!r} is no NAME=VALUE", param_hint="--property")
    return name, value
