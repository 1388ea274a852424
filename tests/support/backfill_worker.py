"""A worker that kills itself in a backfill: ``python -m tests.support.backfill_worker worker``.

FAULT names the place, and the table in whose backfill it does so.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deltaq.worker.cli import app

#: Functions of production code at whose begin a worker may die, by what it has done by then.
PLACES = {
    "preparing": "deltaq.worker.backfill.work:Work._follow",
    "prepared": "deltaq.tasks.backfill:Backfill.add_part",
    "decided": "deltaq.worker.backfill.finishing:Finisher._submit",
    "staged": "deltaq.tasks.inbox:Inbox.submit",
    "adopting": "deltaq.worker.engines.native_adopt:create_table_with_add_actions",
    "logged": "deltaq.worker.engines.native_adopt:sync_commit",
    "committed": "deltaq.tasks.inbox:Inbox.acknowledge",
    "told": "deltaq.worker.backfill.finishing:Finisher._adopted",
}


def install(place: str, die: Callable[[], None]) -> None:
    """Have this process die when it comes to a place with the table of that name."""
    module, _, attribute = PLACES[place].partition(":")
    *path, name = attribute.split(".")
    owner: Any = functools.reduce(getattr, path, importlib.import_module(module))
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if place in map(_table, args):
            die()
        return function(*args, **kwargs)

    setattr(owner, name, wrapped)


def _table(argument: Any) -> str:
    """Tell of which table an argument of one of those functions is."""
    if isinstance(argument, str | Path):
        return Path(argument).name
    manifest = getattr(argument, "manifest", argument)
    return str(getattr(manifest() if callable(manifest) else manifest, "table", ""))


def _die() -> None:
    Path(os.environ["FAULT_FOLDER"], "died").touch()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if place := os.environ.get("FAULT"):
        install(place, _die)
    app()
