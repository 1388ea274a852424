"""The verb ``deltaq doctor``."""

from __future__ import annotations

import sys

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from deltaq.tasks.settings import load_settings
from deltaq.tasks.verbs import Code, Json, Lake, RedisUrl


def doctor(lake: Lake = None, redis_url: RedisUrl = None, as_json: Json = False) -> None:
    """Check the machine, the storage, Redis, workers and queue.

    Each line says ok, warning or error, and what to do. Nothing is changed. Exits with 1 when
    there is an error.

    Example: deltaq doctor --json
    """
    from deltaq.worker.doctor import Level, examine  # brings Celery with it

    settings = load_settings(lake=lake, redis_url=redis_url)
    console = Console()
    levels = []
    for finding in examine(settings):
        levels.append(finding.level)
        if as_json:
            typer.echo(msgspec.json.encode(finding))
        else:
            advice = f"; {finding.advice}" if finding.advice else ""
            line = Text(f"{finding.level:<8} {finding.check:<8} {finding.message}{advice}")
            line.stylize(_COLOURS[finding.level], 0, len(finding.level))
            console.print(line, soft_wrap=True)
        sys.stdout.flush()
    raise typer.Exit(Code.FAILED if Level.ERROR in levels else Code.DONE)


_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}
