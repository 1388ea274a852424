"""The verb ``deltaq jars``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from deltaq.tasks.errors import ConfigurationError
from deltaq.tasks.settings import Settings, load_settings, variable_of
from deltaq.tasks.variable_files import variable_value
from deltaq.tasks.verbs import Json, Lake

S3 = Annotated[
    bool, typer.Option("--s3", help="Those for S3, too, which a lake on s3:// needs anyway.")
]


def jars(lake: Lake = None, s3: S3 = False, as_json: Json = False) -> None:
    """Fetch Delta's JARs, or check those that are there, and print where each is.

    A worker does the same when it starts Spark. Done beforehand, as when an image is built, it
    starts without a network.

    Example: deltaq jars --s3
    """
    from deltaq.worker.jars import provide_jars
    from deltaq.worker.java import find_java

    settings, java = _settings(lake), find_java().executable
    for file in provide_jars(settings, java, threading.Event(), s3=s3):
        typer.echo(msgspec.json.encode({"path": str(file)}) if as_json else file)


def _settings(lake: str | None) -> Settings:
    """Read the settings; who only fetches JARs need not have a lake."""
    try:
        return load_settings(lake=lake)
    except ConfigurationError:
        if lake is not None or variable_value(variable_of("lake")) is not None:
            raise
        return load_settings(lake=Path.cwd())
