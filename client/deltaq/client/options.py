"""Options that several verbs of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Lake = Annotated[
    Path | None, typer.Option(help="Folder of the tables. [env: DELTAQ_LAKE]", show_default=False)
]
RedisUrl = Annotated[
    str | None,
    typer.Option(help="Redis of the queue; with a password, use DELTAQ_REDIS_URL instead."),
]
Timeout = Annotated[float, typer.Option(help="Seconds to wait.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
