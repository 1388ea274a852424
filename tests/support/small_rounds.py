"""A worker that holds few rows, so that parts are cut: ``python -m tests.support.small_rounds worker``.

FAULT names the place at which it kills itself, once for each folder FAULT_FOLDER.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from deltaq.tasks.backfill import Backfill, Prepared
from deltaq.tasks.signed_files import SignedFiles
from deltaq.worker.backfill.preparing import Job
from deltaq.worker.backfill.work import Work
from deltaq.worker.cli import app

#: Parts of the backfill; what has a larger number is a piece.
PARTS = 2
#: Bytes of a round; a real one is three thousand times as large.
ROUND_BYTES = 1 << 16


def _is_cut(_: Any, *arguments: Any) -> bool:
    return any(isinstance(value, Prepared) and value.pieces for value in arguments)


def _is_of_a_piece(_: Any, prepared: Prepared) -> bool:
    return prepared.number >= PARTS and not prepared.pieces


def _has_a_piece(self: Work, *_: Any, **__: Any) -> bool:
    return any(number >= PARTS for number in self._held)


#: Functions at whose begin a worker may die, and with which arguments.
PLACES: dict[str, tuple[type, str, Callable[..., bool]]] = {
    "cut": (Backfill, "add_part", _is_cut),
    "marked": (SignedFiles, "create", _is_cut),
    "preparing_piece": (Work, "_follow", _has_a_piece),
    "prepared_piece": (Backfill, "add_part", _is_of_a_piece),
}


def install(place: str) -> None:
    """Have this process die when it comes to a place."""
    owner, name, is_there = PLACES[place]
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if is_there(*args, **kwargs):
            Path(os.environ["FAULT_FOLDER"], "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    setattr(owner, name, wrapped)


def hold(round_bytes: int) -> None:
    """Have parts of this process prepared in rounds of this size."""
    function = Work.jobs

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> list[Job]:
        replace = msgspec.structs.replace
        return [replace(job, round_bytes=round_bytes) for job in function(*args, **kwargs)]

    setattr(Work, "jobs", wrapped)  # noqa: B010


if __name__ == "__main__":
    hold(int(os.environ.get("ROUND_BYTES", ROUND_BYTES)))
    if fault := os.environ.get("FAULT"):
        install(fault)
    app()
