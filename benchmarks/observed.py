"""What it costs that others look on."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.many import Contest
from benchmarks.results import Result, compared
from benchmarks.run import Run
from benchmarks.work import APPEND
from deltaq.worker import System


def observed(run: Run) -> list[Result]:
    """Ten writers that gather their futures, with metrics and task events on against off."""
    contest = Contest(run, APPEND, writers=10, each=200, waiting=False, bare_each=0)
    port = _free_port()
    with (
        run.place() as place,
        run.system(place / "off", events_per_second=0) as unwatched,
        run.system(place / "on", metrics_port=port) as watched,
        _looked_at(watched, port),
    ):
        # Three in a hundred are less than the spread of three turns.
        races = replace(run, rounds=run.size(3 * run.rounds, run.rounds)).rates(
            {
                "observed": lambda: contest.queue_race(watched),
                "unobserved": lambda: contest.queue_race(unwatched),
            }
        )
    found, on, off = contest.found, races["observed"], races["unobserved"]
    pairs = sorted(a.rate / b.rate for a, b in zip(on.races, off.races, strict=True))
    result = compared(
        "observed",
        on.rate,
        off.rate,
        baseline_name="without metrics and task events",
        unit="appends/s",
        goal=("at least", 0.97),
        notes=f"append_async_10 with metrics read every second and a listener for task events: "
        f"{found}; in {len(pairs)} turns of each {on.spread}/s with, {off.spread}/s without; "
        f"of one turn {pairs[0]:.2f} to {pairs[-1]:.2f} x",
        correct=found.clean,
    )
    return [result]


@contextlib.contextmanager
def _looked_at(system: System, port: int) -> Iterator[None]:
    """Have somebody read metrics and events, in a process of its own as in life."""
    command = [sys.executable, "-m", "benchmarks.onlookers", system.redis.url]
    onlookers = subprocess.Popen(
        [*command, f"http://127.0.0.1:{port}/metrics"],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
    )
    try:
        yield
        if onlookers.poll() is not None:
            raise RuntimeError("nobody looked on, see above")
    finally:
        onlookers.communicate(timeout=30)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
