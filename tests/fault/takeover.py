"""How long a table waits when its committer is killed.

``python -m tests.fault.takeover --kills 20`` kills as often and prints a table of the times.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltaq.tasks import keys
from deltaq.worker import System, embedded
from tests.support.load import Load
from tests.support.log import live_requests
from tests.support.waiting import wait_until

TABLE = "killed"
#: Seconds that a takeover may take beside the lease's time to live.
ALLOWED = 2.0


@dataclass(frozen=True, kw_only=True)
class Takeover:
    """One kill.

    Attributes:
        lease_left: Seconds that the dead worker's lease still had.
        seconds: From the kill to the next commit of the table.
    """

    lease_left: float
    seconds: float


def take_over(folder: Path, *, kills: int) -> tuple[float, list[Takeover]]:
    """Kill the committer of a busy table over and over, each time with another worker there.

    Returns:
        The leases' time to live, and what each kill cost.
    """
    found: list[Takeover] = []
    with embedded(folder / "lake", workers=2, spark="off") as system, system.client() as client:
        system.wait_ready()
        with Load(client, TABLE) as load:
            wait_until(lambda: load.futures and load.futures[0].done(), within=30)
            while len(found) < kills:
                takeover = _kill_committer(system)
                if takeover is not None:
                    found.append(takeover)
                system.start_worker()
                system.wait_ready()
        outcomes = [future.result(60) for future in load.futures]
        assert [o.sequence for o in outcomes] == list(range(1, len(outcomes) + 1))
        ids = live_requests(system.settings.lake / TABLE)
        assert ids == [future.request_id for future in load.futures]
        return system.settings.lease_ttl, found


def _kill_committer(system: System) -> Takeover | None:
    """Kill whoever holds the lease; None if it gave the lease back in that instant."""
    lease, deadline = keys.lease(TABLE), time.monotonic() + 30
    with system.redis.connect() as client:
        while not (holder := client.hget(lease, "holder")):
            assert time.monotonic() < deadline, "nobody took the lease within 30 s"
        pid = int(str(holder).partition("@")[0].removeprefix("deltaq-"))
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        (worker,) = (w for w in system.workers if w.pid == pid)
        worker.wait()
        left: Any = client.pttl(lease)
        if left < 0 or client.hget(lease, "holder") != holder:
            return None
    before = _newest(system)
    wait_until(lambda: _newest(system) > before, within=60)
    return Takeover(lease_left=left / 1000, seconds=time.monotonic() - killed)


def _newest(system: System) -> int:
    log = system.settings.lake / TABLE / "_delta_log"
    return max(int(file.stem) for file in log.glob("*.json") if file.stem.isdigit())


def table_of(ttl: float, found: list[Takeover]) -> str:
    """Write a line for each kill, and a summary."""
    lines = [f"{'kill':>4}{'lease left, s':>15}{'next commit after, s':>22}"]
    for number, takeover in enumerate(found, 1):
        lines.append(f"{number:>4}{takeover.lease_left:>15.2f}{takeover.seconds:>22.2f}")
    seconds = [takeover.seconds for takeover in found]
    lines.append(
        f"median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s, "
        f"allowed {ttl + ALLOWED:.2f} s (lease_ttl {ttl:g} s + {ALLOWED:g} s)"
    )
    return "\n".join(lines)


def main() -> int:
    """Kill the committer of a busy table and print how long the table waited each time."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fault.takeover", description=main.__doc__
    )
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deltaq-takeover-") as folder:
        ttl, found = take_over(Path(folder), kills=options.kills)
    print(table_of(ttl, found))
    return int(max(t.seconds for t in found) > ttl + ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
