"""A worker that some requests kill: ``python -m tests.support.poisoned_worker worker``.

POISON names them, with commas between; those that begin with "jvm" kill only Spark's JVM. DEATHS is
a file that gets a line for each death.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from deltaq.worker.cli import app
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.groups import CommitGroup
from deltaq.worker.router import Performed, Router

_POISON = os.environ["POISON"].split(",")
_apply = Router.apply
_snapshot = SparkEngine._snapshot


def _apply_or_die(router: Router, group: CommitGroup) -> Performed:
    if any(not i.startswith("jvm") for i in _poison_in(group)):
        _die(group, os.getpid())
    return _apply(router, group)


def _snapshot_without_jvm(engine: SparkEngine, kernel: Any, group: CommitGroup) -> Any:
    if any(i.startswith("jvm") for i in _poison_in(group)):
        assert engine._warm.jvm_pid is not None
        _die(group, engine._warm.jvm_pid)
    return _snapshot(engine, kernel, group)


def _poison_in(group: CommitGroup) -> list[str]:
    return [r.request_id for r in group.requests if r.request_id in _POISON]


def _die(group: CommitGroup, pid: int) -> None:
    with Path(os.environ["DEATHS"]).open("a") as deaths:
        deaths.write(" ".join(str(m.sequence) for m in group.members) + "\n")
    os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    Router.apply = _apply_or_die  # type: ignore[method-assign,assignment]
    SparkEngine._snapshot = _snapshot_without_jvm  # type: ignore[method-assign,assignment]
    app()
