"""The verb ``deltaq recover``."""

from __future__ import annotations

from typing import Annotated

import typer

from deltaq.tasks.settings import load_settings
from deltaq.tasks.verbs import Json, Lake, RedisUrl, Timeout, complete_table


def recover(
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TABLE]...",
            help="Names of tables; all by default.",
            autocompletion=complete_table,
        ),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without this, only show.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines with tabs.")] = False,
    as_json: Json = False,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    timeout: Timeout = 60.0,
) -> None:
    """Show the staged requests, and submit again those that Redis has forgotten.

    Workers do so by themselves after a restart or a loss of Redis. What is left for this verb are
    requests whose client ended before Redis had them.

    Exit codes: 0 done, 1 a staged file cannot be read, 2 usage or settings, 3 queue unavailable,
    4 a table was in use for too long.

    Example: deltaq recover --apply
    """
    from deltaq.worker.recover_run import run  # brings Celery and the engines with it

    settings = load_settings(lake=lake, redis_url=redis_url)
    code = run(settings, tables, apply=apply, plain=plain, as_json=as_json, timeout=timeout)
    raise typer.Exit(code)
