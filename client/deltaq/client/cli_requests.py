"""The verbs about requests on their way: outcome, cancel."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
import typer

from deltaq.client.cli_submitting import describe_outcome
from deltaq.client.client import Client
from deltaq.client.pending import error_of
from deltaq.tasks.errors import InvalidRequest, OutcomeExpired
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.verbs import WRITE, Code, Json, Lake, RedisUrl, TableName

app = typer.Typer()

RequestId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the request.", show_default=False)
]

#: Seconds between two looks at a request.
_PAUSE = 0.2


@app.command(rich_help_panel=WRITE)
def outcome(
    table: TableName,
    request_id: RequestId,
    timeout: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for it.")
    ] = 0.0,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    """Tell what came of a request, of any client.

    One that is still queued when the time is over exits with 4, one that was not committed with 1.

    Example: deltaq outcome prices order-17 --timeout 30
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        found = _look(client, table, request_id, timeout)
    if found.state is State.QUEUED:
        typer.echo(msgspec.json.encode(found) if as_json else f"{table}: {found.operation} queued")
        raise typer.Exit(Code.TIMED_OUT)
    if as_json:
        typer.echo(msgspec.json.encode(found))
        raise typer.Exit(Code.DONE if found.state is State.COMMITTED else Code.FAILED)
    if error := error_of(found):
        raise error
    typer.echo(describe_outcome(found))


def _look(client: Client, table: str, request_id: str, timeout: float) -> Outcome:
    deadline = time.monotonic() + timeout
    while True:
        found = client.outcome(table, request_id)
        if found is None:
            raise OutcomeExpired(
                f"Redis knows no request {request_id} on table {table}: it was never submitted, "
                f"or settled more than {client.settings.outcome_ttl:,} s ago",
                request_id=request_id,
                table=table,
            )
        if found.state is not State.QUEUED or time.monotonic() >= deadline:
            return found
        time.sleep(_PAUSE)


@app.command(rich_help_panel=WRITE)
def cancel(
    table: TableName,
    request_id: RequestId,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    """Cancel a request if no worker has begun with it; exits with 1 if it was too late.

    Example: deltaq cancel prices order-17
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        cancelled = client.cancel(table, request_id=request_id)
    if as_json:
        typer.echo(msgspec.json.encode({"cancelled": cancelled}))
        raise typer.Exit(Code.DONE if cancelled else Code.FAILED)
    if not cancelled:
        raise InvalidRequest(
            f"request {request_id} on table {table} cannot be cancelled: a worker has begun with "
            f"it, it is settled, or the queue does not know it: deltaq outcome {table} {request_id}"
        )
    typer.echo(f"{table}: {request_id} cancelled; it is not and will not be applied")
