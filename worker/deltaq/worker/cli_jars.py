"""The verb ``deltaq jars``."""

from __future__ import annotations

import threading

import msgspec
import typer

from deltaq.tasks.settings import load_settings
from deltaq.tasks.verbs import Json, Lake


def jars(lake: Lake = None, as_json: Json = False) -> None:
    """Fetch Delta's JARs, or check those that are there, and print where each is.

    A worker does the same when it starts Spark. Done beforehand, as when an image is built, it
    starts without a network.

    Example: deltaq jars
    """
    from deltaq.worker.jars import provide_jars
    from deltaq.worker.java import find_java

    for file in provide_jars(load_settings(lake=lake), find_java().executable, threading.Event()):
        typer.echo(msgspec.json.encode({"path": str(file)}) if as_json else file)
