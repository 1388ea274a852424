"""A worker that some requests kill: ``python -m tests.support.poisoned_worker worker``.

POISON names them, with commas between; DEATHS is a file that gets a line for each death.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from deltaq.worker.cli import app
from deltaq.worker.groups import CommitGroup
from deltaq.worker.router import Performed, Router

_POISON = os.environ["POISON"].split(",")
_apply = Router.apply


def _die_of_poison(router: Router, group: CommitGroup) -> Performed:
    if any(request.request_id in _POISON for request in group.requests):
        with Path(os.environ["DEATHS"]).open("a") as deaths:
            deaths.write(" ".join(str(m.sequence) for m in group.members) + "\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return _apply(router, group)


if __name__ == "__main__":
    Router.apply = _die_of_poison  # type: ignore[method-assign,assignment]
    app()
