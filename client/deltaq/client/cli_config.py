"""The verb ``deltaq config``."""

from __future__ import annotations

import msgspec
import typer

from deltaq.client.tabular import show_table
from deltaq.tasks.sources import explain_settings
from deltaq.tasks.verbs import QUEUE, Json, Lake, RedisUrl

app = typer.Typer()


@app.command(rich_help_panel=QUEUE)
def config(lake: Lake = None, redis_url: RedisUrl = None, as_json: Json = False) -> None:
    """Show the settings in effect, and where each comes from. Secrets are masked.

    Example: deltaq config --json
    """
    told = explain_settings(lake=lake, redis_url=redis_url)
    if as_json:
        typer.echo(msgspec.json.encode(told))
    else:
        show_table(["setting", "value", "from"], ([s.name, s.text, s.source] for s in told))
