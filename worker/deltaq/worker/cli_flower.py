"""The verb ``deltaq flower``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltaq.tasks.errors import ConfigurationError
from deltaq.tasks.logs import secrets_of, set_up_logging
from deltaq.tasks.settings import load_settings
from deltaq.tasks.verbs import RedisUrl


def flower(
    redis_url: RedisUrl = None,
    address: Annotated[
        str, typer.Option(help="Where to listen; 0.0.0.0 for all of the machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 5555,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Only show: no cancelling, no stopping of workers.")
    ] = False,
    max_tasks: Annotated[
        int, typer.Option(min=1, help="Tasks to keep in memory, the latest.")
    ] = 20_000,
) -> None:
    """Run Flower, which shows workers, requests and reads, until SIGTERM or Ctrl-C.

    It asks for the name and password of DELTAQ_FLOWER_AUTH, or of the file that
    DELTAQ_FLOWER_AUTH_FILE names, and does not start without. It needs the extra 'flower'.

    Example: deltaq flower --port 8080 --read-only
    """
    # It sees no table, so nobody has to say where they are.
    settings = load_settings(lake=Path.cwd(), redis_url=redis_url)
    set_up_logging(settings.log_level, settings.log_format, secrets=secrets_of(settings))
    if settings.flower_auth is None:
        raise ConfigurationError(
            "flower_auth is not set: Flower can stop workers and cancel requests, so it asks for a "
            "name and a password. Give them as DELTAQ_FLOWER_AUTH=name:password, or in a file "
            "that DELTAQ_FLOWER_AUTH_FILE names",
            details={"settings": ["flower_auth"]},
        )
    try:
        from deltaq.worker.flower_run import run  # brings Tornado and Celery with it
    except ModuleNotFoundError as exc:
        raise ConfigurationError(f"{exc}: pip install 'deltaq[flower]'") from exc
    run(settings, address=address, port=port, read_only=read_only, max_tasks=max_tasks)
