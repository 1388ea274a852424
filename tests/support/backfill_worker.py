"""A worker that stops in a backfill: ``python -m tests.support.backfill_worker worker``.

What it does there, and of which tables, the environment tells: see ``tests.support.faulty``.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from deltaq.worker.cli import app
from tests.support.faulty import Saboteur


class Place(StrEnum):
    """How far a backfill has come when its worker stops."""

    PREPARING = "preparing"  # a part is claimed, and its process has begun
    PREPARED = "prepared"  # its files are there, nobody knows
    DECIDED = "decided"  # all parts are, the verdict is written
    STAGED = "staged"  # the request to adopt is staged, Redis knows nothing
    ADOPTING = "adopting"  # claimed and checked, nothing is in the log
    LOGGED = "logged"  # in the log, not yet synced
    COMMITTED = "committed"  # durable, not acknowledged
    TOLD = "told"  # the caller knows, the folder says it is being adopted


#: Those at which threads that commit are: any number at a time.
COMMITTING = (Place.ADOPTING, Place.LOGGED, Place.COMMITTED)

#: The functions at whose begin the places are, and how the table is found in the arguments.
_HOOKS: list[tuple[Place, str, Callable[..., str]]] = [
    (Place.PREPARING, "worker.backfill.work:Work._follow", lambda work, *_: work.manifest.table),
    (
        Place.PREPARED,
        "tasks.backfill:Backfill.add_part",
        lambda backfill, _: backfill.manifest().table,
    ),
    (
        Place.DECIDED,
        "worker.backfill.finishing:Finisher._submit",
        lambda _, backfill, manifest, *__, **___: manifest.table,
    ),
    (Place.STAGED, "tasks.inbox:Inbox.submit", lambda _, request, **__: request.table),
    (
        Place.ADOPTING,
        "worker.engines.native_adopt:create_table_with_add_actions",
        lambda path, *_, **__: Path(path).name,
    ),
    (
        Place.ADOPTING,
        "worker.engines.native_adopt:Adopter._commit",
        lambda _, __, request, *___: request.table,
    ),
    (Place.LOGGED, "worker.engines.native_adopt:sync_commit", lambda path, _: path.name),
    (Place.COMMITTED, "tasks.inbox:Inbox.acknowledge", lambda _, table, *__, **___: table),
    (
        Place.TOLD,
        "worker.backfill.finishing:Finisher._adopted",
        lambda _, __, manifest, ___: manifest.table,
    ),
]


def install(reached: Callable[[Place, str], bool]) -> None:
    """Have ``reached`` called whenever this process comes to a place; False leaves it out."""
    for place, name, table in _HOOKS:
        module, _, attribute = name.partition(":")
        *path, last = attribute.split(".")
        owner: Any = functools.reduce(getattr, path, importlib.import_module(f"deltaq.{module}"))
        setattr(owner, last, _wrapped(getattr(owner, last), place, table, reached))


def _wrapped(
    function: Callable[..., Any],
    place: Place,
    table: Callable[..., str],
    reached: Callable[[Place, str], bool],
) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if reached(place, table(*args, **kwargs)) else None

    return wrapper


if __name__ == "__main__":
    install(Saboteur.from_environment().reached)
    app()
