"""What the verbs share that submit a request: options, the wait, and what is said then."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from deltaq.client.future import Future
from deltaq.tasks.errors import ResultTimeout
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import EngineName, Lane

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
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Print the request's id once it is queued, and end.")
]


#: What is said of operations that change no row.
_DONE = {
    "create": "created",
    "restore": "restored",
    "drop": "dropped",
    "set_properties": "properties set",
    "add_column": "column added",
    "rename_column": "column renamed",
    "optimize": "compacted",
    "vacuum": "vacuumed",
    "checkpoint": "checkpoint written",
    "convert": "converted",
}


def end(future: Future[Outcome], *, wait: bool, timeout: float, as_json: bool) -> None:
    """Wait for the outcome and say what was done, or print the id and end."""
    if not wait:
        facts = {"request_id": future.request_id, "table": future.table, "state": State.QUEUED}
        typer.echo(msgspec.json.encode(facts) if as_json else future.request_id)
        return
    outcome = awaited(future, timeout)
    typer.echo(msgspec.json.encode(outcome) if as_json else describe_outcome(outcome))


def awaited(future: Future[Outcome], timeout: float) -> Outcome:
    """Wait for the outcome; who gives up is told how to ask again.

    Raises:
        DeltaqError: The request failed, or the time is over.
    """
    ask = f"deltaq outcome {future.table} {future.request_id}"
    try:
        return future.result(timeout)
    except ResultTimeout as exc:
        raise ResultTimeout(
            f"no outcome of the {future.operation} within {timeout:g} s; it goes on, ask with: "
            f"{ask} --timeout 60; whether a worker runs tells: deltaq doctor",
            request_id=future.request_id,
            table=future.table,
        ) from exc
    except KeyboardInterrupt:
        typer.echo(f"deltaq: no longer waiting; the {future.operation} goes on: {ask}", err=True)
        raise


def describe_outcome(outcome: Outcome) -> str:
    """Say in a line what a request did to its table."""
    version = "" if outcome.version is None else f"version {outcome.version}, "
    if done := _DONE.get(outcome.operation):
        return f"{outcome.table}: {version}{done}"
    counts: list[tuple[Any, str]] = [
        (outcome.inserted, "inserted"),
        (outcome.updated, "updated"),
        (outcome.deleted, "deleted"),
    ]
    told = [f"{number:,} {what}" for number, what in counts if number]
    if not told and outcome.rows is not None and outcome.inserted is None:
        told = [f"{outcome.rows:,} rows brought"]
    return f"{outcome.table}: {version}{', '.join(told) or 'no row changed'}"
