"""The command line: verbs of users here, verbs of operators by entry point."""

from __future__ import annotations

import importlib.metadata
import logging
from typing import Annotated, Any

import typer

from deltaq.client import (
    cli_backfill,
    cli_config,
    cli_dead_letters,
    cli_maintain,
    cli_reads,
    cli_requests,
    cli_status,
    cli_tables,
    cli_watch,
    cli_writes,
)
from deltaq.tasks.logs import set_up_logging
from deltaq.tasks.verbs import Verbs

#: Entry points that bring further verbs.
_GROUP = "deltaq.commands"
_OWN = (
    *(cli_writes, cli_backfill, cli_requests, cli_reads, cli_watch, cli_tables, cli_maintain),
    *(cli_status, cli_dead_letters, cli_config),
)

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A commit queue for Delta Lake. Settings: options, DELTAQ_* variables, deltaq.toml.",
    epilog="Exit codes: 0 done, 1 the request failed, 2 usage or settings, "
    "3 queue unavailable, 4 the wait timed out (the request goes on).",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deltaq {importlib.metadata.version('deltaq')}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Tell the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    # What matters to the caller is in the error, one line.
    logging.getLogger("deltaq.client").setLevel(logging.DEBUG if debug else logging.ERROR)
    _tell_of_waits()


def _tell_of_waits() -> None:
    """Have a wait for room or for a worker, which may be a long one, told as errors are."""
    teller = logging.StreamHandler()
    teller.setFormatter(logging.Formatter("deltaq: %(message)s"))
    for waiting in ("room", "backfill_run"):
        waits = logging.getLogger(f"deltaq.client.{waiting}")
        waits.handlers, waits.propagate = [teller], False
        waits.setLevel(logging.INFO)


def main() -> None:
    """Run ``deltaq``."""
    set_up_logging("ERROR", "human")  # a worker has settings of its own for this
    for module in _OWN:
        _take(module.app)
    for entry_point in importlib.metadata.entry_points(group=_GROUP):
        _take(entry_point.load())
    app(prog_name="deltaq")


def _take(verbs: Any) -> None:
    app.registered_commands.extend(verbs.registered_commands)
    app.registered_groups.extend(verbs.registered_groups)


if __name__ == "__main__":
    main()
