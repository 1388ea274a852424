"""The verbs of bulk loads: backfill, and its list, show, resume and cancel."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from typer.core import TyperGroup

from deltaq.client.backfill_future import BackfillFuture
from deltaq.client.cli_submitting import Engine, PartitionBy, RequestId, describe_outcome
from deltaq.client.cli_tables import named_types
from deltaq.client.client import Client
from deltaq.tasks.errors import DeltaqError, InvalidRequest, ResultTimeout
from deltaq.tasks.manifest import Csv
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.request import LoadMode, SchemaMode
from deltaq.tasks.verbs import WRITE, Json, Lake, OnlyTable, RedisUrl, TableName

if TYPE_CHECKING:  # nobody else needs it
    from deltaq.client.backfill_progress import BackfillProgress

#: Seconds between two looks at a backfill that is waited for.
_LOOK_SECONDS = 0.5


class _RunByDefault(TyperGroup):
    """A group in which what is none of its verbs is a table to load."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the verb that may be left out before its arguments."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer()
backfill = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Load files into a table by all workers, in one commit: deltaq backfill TABLE SOURCE...",
)
app.add_typer(backfill, name="backfill", rich_help_panel=WRITE)

BackfillId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the backfill.", show_default=False)
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Print the backfill's id once it has begun, and end.")
]
Patience = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="How long to wait; by default until it has ended.",
        show_default=False,
    ),
]


@backfill.command()
def run(
    table: TableName,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files, globs or folders of Parquet, CSV or JSON lines that workers see.",
            show_default=False,
        ),
    ],
    mode: Annotated[
        LoadMode,
        typer.Option(help="What becomes of the rows that are there."),
    ] = "append",
    partition_by: PartitionBy = None,
    sort_by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Orders the rows of each file; repeatable.", show_default=False
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            "-c",
            metavar="'NAME TYPE'",
            help="What the columns are, instead of a guess; repeatable.",
            show_default=False,
        ),
    ] = None,
    schema_mode: Annotated[
        SchemaMode | None,
        typer.Option(
            help="merge: files may lack columns or have narrower types, and so may the table.",
            show_default=False,
        ),
    ] = None,
    parts: Annotated[
        int | None, typer.Option(min=1, help="About how many parts.", show_default=False)
    ] = None,
    upload: Annotated[
        bool, typer.Option("--upload", help="Copy the files: workers do not see them.")
    ] = False,
    delimiter: Annotated[str, typer.Option(help="Between the values of CSV.")] = ",",
    null: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="What is null in CSV besides nothing; repeatable.",
            show_default=False,
        ),
    ] = None,
    multiline: Annotated[
        bool, typer.Option("--multiline", help="Quoted values of CSV go over lines.")
    ] = False,
    engine: Engine = None,
    request_id: RequestId = None,
    no_wait: NoWait = False,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Patience = None,
    as_json: Json = False,
) -> None:
    """Load files into a table by all workers, in one commit; "run" may be left out.

    Ctrl-C ends the wait, not the backfill.

    Example: deltaq backfill run prices ./history --partition-by symbol --sort-by day
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        future = client.backfill(
            table,
            sources,
            mode=mode,
            partition_by=partition_by or None,
            sort_by=sort_by or None,
            schema=named_types(column) if column else None,
            schema_mode=schema_mode,
            parts=parts,
            upload=upload,
            csv=Csv(delimiter=delimiter, null_values=("", *(null or ())), multiline=multiline),
            engine=engine,
            request_id=request_id,
        )
        _end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


@backfill.command("list")
def list_backfills(table: OnlyTable = None, lake: Lake = None, as_json: Json = False) -> None:
    """List the backfills that run, and those that ended lately, oldest first.

    Example: deltaq backfill list --table prices
    """
    with Client(lake=lake) as client:
        found = client.backfills(table)
    for progress in found:
        if as_json:
            typer.echo(msgspec.json.encode(_facts(progress)))
            continue
        when = f"{progress.submitted_at:%Y-%m-%d %H:%M:%S}  " if progress.submitted_at else ""
        typer.echo(f"{when}{progress.table}  {progress.backfill_id}  {_told(progress)}")
    if not found:
        typer.echo("no backfills", err=True)


@backfill.command()
def show(
    backfill_id: BackfillId, lake: Lake = None, redis_url: RedisUrl = None, as_json: Json = False
) -> None:
    """Show how far a backfill is, which parts are slow, or why it failed.

    Example: deltaq backfill show history-2024
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        progress = client.backfill_progress(backfill_id)
    if as_json:
        typer.echo(msgspec.json.encode(_facts(progress)))
        return
    for name in (
        "backfill_id",
        "table",
        "mode",
        "submitted_at",
        "submitted_by",
        "version",
        "files",
    ):
        if (fact := getattr(progress, name)) is not None:
            typer.echo(f"{name}: {fact}")
    typer.echo(f"state: {_told(progress)}")
    for straggler in progress.stragglers:
        typer.echo(
            f"slow: part {straggler.part} on {straggler.worker}, {straggler.seconds:.0f} s so far"
        )


@backfill.command()
def resume(
    backfill_id: BackfillId,
    no_wait: NoWait = False,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Patience = None,
    as_json: Json = False,
) -> None:
    """Go on with a backfill that failed or was cancelled, or wait for one that runs.

    Example: deltaq backfill resume history-2024
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        future = client.resume_backfill(backfill_id)
        _end(future, wait=not no_wait, timeout=timeout, as_json=as_json)


@backfill.command()
def cancel(
    backfill_id: BackfillId, lake: Lake = None, redis_url: RedisUrl = None, as_json: Json = False
) -> None:
    """Stop a backfill as long as parts are prepared; exits with 1 if it was too late.

    Example: deltaq backfill cancel history-2024
    """
    with Client(lake=lake, redis_url=redis_url) as client:
        cancelled = client.cancel_backfill(backfill_id)
    if as_json:
        typer.echo(msgspec.json.encode({"cancelled": cancelled}))
        raise typer.Exit(0 if cancelled else 1)
    if not cancelled:
        raise InvalidRequest(
            f"backfill {backfill_id} cannot be cancelled: all its parts are prepared, or it has "
            f"ended: deltaq backfill show {backfill_id}"
        )
    typer.echo(f"{backfill_id} cancelled; the table does not and will not have its rows")


def _end(future: BackfillFuture, *, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Wait for the outcome and say what was done, or print the id and end."""
    backfill_id = future.request_id
    if not wait:
        facts = {"backfill_id": backfill_id, "table": future.table}
        typer.echo(msgspec.json.encode(facts) if as_json else backfill_id)
        return
    try:
        outcome = _awaited(future, timeout, shown=not as_json)
    except KeyboardInterrupt:
        typer.echo(
            f"deltaq: no longer waiting; backfill {backfill_id} goes on. Wait again: deltaq "
            f"backfill resume {backfill_id}. Stop it: deltaq backfill cancel {backfill_id}",
            err=True,
        )
        raise
    except DeltaqError:
        if future.done() and not as_json:
            typer.echo(
                f"deltaq: nothing of backfill {backfill_id} is in the table; when its sources are "
                f"mended, go on: deltaq backfill resume {backfill_id}",
                err=True,
            )
        raise
    typer.echo(msgspec.json.encode(outcome) if as_json else describe_outcome(outcome))


def _awaited(future: BackfillFuture, timeout: float | None, *, shown: bool) -> Outcome:
    from deltaq.client.display import make_display  # rich takes 0.1 s to import

    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    display = make_display() if shown else None
    try:
        while not _done(future, deadline):
            if display:
                display.show(future.progress())
    finally:
        if display:
            display.end(future.progress())
    if future.done():
        return future.result()
    raise ResultTimeout(
        f"backfill {future.request_id} of table {future.table} has not ended within {timeout:g} s; "
        f"it goes on, wait again with: deltaq backfill resume {future.request_id}",
        request_id=future.request_id,
        table=future.table,
    )


def _done(future: BackfillFuture, deadline: float) -> bool:
    """Wait a little; tell whether there is nothing more to wait for."""
    left = deadline - time.monotonic()
    concurrent.futures.wait([future], max(0.0, min(_LOOK_SECONDS, left)))
    return future.done() or left <= 0


def _told(progress: BackfillProgress) -> str:
    told = str(progress) if progress.parts else str(progress.state)
    return f"{told}; {progress.error.message}" if progress.error else told


def _facts(progress: BackfillProgress) -> dict[str, Any]:
    return {
        **dataclasses.asdict(progress),
        "mb_per_second": progress.mb_per_second,
        "seconds_left": progress.seconds_left,
    }
