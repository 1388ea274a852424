"""The verb ``deltaq jars``."""

from __future__ import annotations

import threading
from typing import Annotated

import msgspec
import typer

from deltaq.tasks.settings import load_settings
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

    settings, java = load_settings(lake=lake), find_java().executable
    for file in provide_jars(settings, java, threading.Event(), s3=s3):
        typer.echo(msgspec.json.encode({"path": str(file)}) if as_json else file)
