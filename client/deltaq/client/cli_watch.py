"""The verb ``deltaq watch``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from typing import Annotated

import msgspec
import typer

from deltaq.client.client import Client
from deltaq.client.following import Commit
from deltaq.tasks.errors import ResultTimeout
from deltaq.tasks.suggest import did_you_mean
from deltaq.tasks.verbs import READ, Json, Lake, RedisUrl, complete_table

app = typer.Typer()

#: Seconds to wait for a worker's word on which tables there are.
_ANSWER_SECONDS = 10.0


@app.command(rich_help_panel=READ)
def watch(
    tables: Annotated[
        list[str],
        typer.Argument(
            metavar="TABLE",
            help="Names of tables; they need not exist yet.",
            show_default=False,
            autocompletion=complete_table,
        ),
    ],
    from_version: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="VERSION",
            help="First version to tell of; by default the next commit.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, metavar="COMMITS", help="End after so many.", show_default=False),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="End after so long without a commit; with --count that exits with 4.",
            show_default=False,
        ),
    ] = None,
    lake: Lake = None,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    """Tell of each commit to tables as it happens, by whomever, until Ctrl-C.

    Example: deltaq watch prices --from-version 0 --count 1 --timeout 60
    """
    with (
        contextlib.suppress(KeyboardInterrupt),  # how one leaves
        Client(lake=lake, redis_url=redis_url) as client,
    ):
        # First, so that where no worker runs that is said, and soon.
        _tell_of_absent(tables, client.tables(timeout=_ANSWER_SECONDS))
        with client.watch(tables, from_version=from_version, timeout=timeout) as commits:
            told = _tell(commits, count, as_json=as_json)
        if count is not None and told < count:
            raise ResultTimeout(
                f"{told} of {count} commits to {', '.join(tables)}, and then none for {timeout:g} s"
            )


def _tell(commits: Iterable[Commit], count: int | None, *, as_json: bool) -> int:
    """Print commits, as many as there are or are asked for; tell how many there were."""
    told = 0
    for commit in commits:
        typer.echo(msgspec.json.encode(commit) if as_json else _line(commit))
        sys.stdout.flush()
        told += 1
        if told == count:
            break
    return told


def _tell_of_absent(tables: list[str], known: list[str]) -> None:
    """Say what does not exist, which may be a mistake and may come."""
    for name in tables:
        if name not in known:
            typer.echo(f"no table {name} yet{did_you_mean(name, known)}; waiting for it", err=True)


def _line(commit: Commit) -> str:
    rows = ""
    if commit.rows is not None:
        rows = f", {commit.rows:,} row{'' if commit.rows == 1 else 's'}"
    ids = commit.request_ids
    by = ids[0] if len(ids) == 1 else f"{len(ids):,} requests" if ids else commit.engine or "?"
    return f"{commit.table}: version {commit.version}, {commit.operation}{rows}, {by}"
