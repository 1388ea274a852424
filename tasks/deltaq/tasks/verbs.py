"""What all verbs of the command line share: options, exit codes, how an error is told.

The one module of this room that imports typer; only the command line imports it.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from typer.core import TyperGroup

from deltaq.tasks.errors import (
    ConfigurationError,
    DeltaqError,
    QueueUnavailable,
    ResultTimeout,
)

#: Headings of the list of verbs.
WRITE, READ, TABLE = "Write", "Read", "See after tables"
QUEUE, SYSTEM = "See after the queue", "Run the system"

#: Where --json is noted, for the telling of errors.
_JSON = "deltaq.json"


class Code(IntEnum):
    """What a verb exits with. Further ones are 5, a worker that stopped at once, and 130, Ctrl-C."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    TIMED_OUT = 4


def exit_code(error: DeltaqError) -> Code:
    """Choose the exit code that tells a script what kind of error it was."""
    if isinstance(error, ConfigurationError):
        return Code.USAGE
    if isinstance(error, QueueUnavailable):
        return Code.UNAVAILABLE
    return Code.TIMED_OUT if isinstance(error, ResultTimeout) else Code.FAILED


class Verbs(TyperGroup):
    """A group of verbs whose errors become one line and an exit code.

    With ``--debug`` before the verb they are raised, for the traceback.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except Exception as exc:
            if ctx.params.get("debug") or _is_for_typer(exc):
                raise
            code = _tell(exc, as_json=bool(ctx.meta.get(_JSON)))
        raise typer.Exit(code)


def _is_for_typer(error: Exception) -> bool:
    """Tell what typer deals with: its own errors, and a reader of a pipe that has enough."""
    return isinstance(error, typer.Abort | BrokenPipeError) or hasattr(error, "exit_code")


def _tell(error: Exception, *, as_json: bool) -> Code:
    """Write an error to stderr, as a line for people or as JSON, and choose the exit code."""
    code = exit_code(error) if isinstance(error, DeltaqError) else Code.FAILED
    match error:
        case DeltaqError() if as_json:
            typer.echo(msgspec.json.encode(facts_of(error)), err=True)
            return code
        case DeltaqError():
            line = str(error)
        case ModuleNotFoundError():  # by a verb of operators on a client's machine
            code = Code.USAGE
            line = f"{error}: install it with: pip install 'deltaq[worker]'"
        case OSError(filename=str() | bytes() | Path() as name):
            line = f"{name!s}: {error.strerror}"
        case _:
            line = f"unforeseen {type(error).__name__}: {error}; 'deltaq --debug' shows where"
    typer.echo(f"deltaq: {line}", err=True)
    return code


def facts_of(error: DeltaqError) -> dict[str, Any]:
    """List what an error tells, for JSON."""
    return {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        "request_id": error.request_id,
        "table": error.table,
        "details": error.details,
    }


def _note_json(context: typer.Context, value: bool) -> bool:
    context.meta[_JSON] = value
    return value


def complete_table(context: typer.Context, incomplete: str) -> list[str]:
    """List the tables in the lake whose names begin so."""
    from deltaq.tasks.settings import load_settings

    try:
        folders = load_settings(lake=context.params.get("lake")).lake.iterdir()
        names = [f.name for f in folders if (f / "_delta_log").is_dir()]
    except (DeltaqError, OSError):
        return []  # whoever presses Tab wants no error; the verb will tell it
    return sorted(name for name in names if name.startswith(incomplete))


Lake = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder of the tables, or s3://bucket/folder. By default DELTAQ_LAKE or deltaq.toml says where.",
        show_default=False,
    ),
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Redis of the queue. With a password, use DELTAQ_REDIS_URL instead.",
        show_default=False,
    ),
]
Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", callback=_note_json)]
TableName = Annotated[
    str,
    typer.Argument(
        metavar="TABLE",
        help="Name of the table.",
        show_default=False,
        autocompletion=complete_table,
    ),
]
OnlyTable = Annotated[
    str | None,
    typer.Option(
        metavar="TABLE",
        help="Only those of this table.",
        show_default=False,
        autocompletion=complete_table,
    ),
]
