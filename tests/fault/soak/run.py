"""A soak from its first writer to its report."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from deltaq.worker import System, embedded
from tests.fault.evidence import clean, leftovers
from tests.fault.soak.chaos import Chaos
from tests.fault.soak.plan import WRITERS
from tests.fault.soak.report import Report
from tests.fault.soak.verdict import judge, read_told
from tests.fault.soak.watch import Watch
from tests.fault.soak.writer import PATIENCE
from tests.support.paths import as_path
from tests.support.programs import environment
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

#: Programs that the writers are in; one of them reaches Redis by the proxy.
_PROGRAMS = 4
#: Requests in a second that all writers together try for.
RATE = 60.0


def soak(folder: Path, *, seconds: float, spark: bool, seed: int) -> Report:
    """Have twenty writers write while faults strike, and look at everything afterwards.

    Args:
        folder: An empty folder for the lake, the staging area and the logs.
        seconds: How long.
        spark: Whether Spark takes part.
        seed: Of the faults.
    """
    settings: dict[str, Any] = {
        "spark": "on" if spark else "off",
        "spark_master": "local[2]",
        "lease_ttl": 2.0,
    }
    with ExitStack() as stack:
        system = stack.enter_context(embedded(folder / "lake", workers=0, **settings))
        proxy = stack.enter_context(Proxy(Path(system.redis.url.removeprefix("unix://"))))
        stack.enter_context(_variable("REDIS_PROXY", proxy.url))
        chaos = Chaos(system, proxy, seed=seed)
        system.wait_ready()
        writers = stack.enter_context(_writers(folder, system, proxy, spark=spark))
        watch = Watch(system, worker=chaos.survivor.pid, writer=writers[0].pid)
        began = time.monotonic()
        with watch:
            chaos.run(began + seconds)
        lasted = time.monotonic() - began
        (folder / "stop").touch()
        wait_until(lambda: all(w.poll() is not None for w in writers), within=PATIENCE + 60)
        said = (folder / "writers.log").read_text(errors="replace")
        assert [w.returncode for w in writers] == [0] * _PROGRAMS, said[-3000:]
        _end_workers(system)
        clean(system)
        return _report(folder, system, chaos, watch, lasted=lasted, seed=seed)


@contextmanager
def _writers(
    folder: Path, system: System, proxy: Proxy, *, spark: bool
) -> Iterator[list[subprocess.Popen[bytes]]]:
    (folder / "told").mkdir()
    programs = []
    with (folder / "writers.log").open("wb") as log:
        for program in range(_PROGRAMS):
            variables = {
                **system.env,
                "WRITERS": ",".join(str(n) for n in range(program, WRITERS, _PROGRAMS)),
                "TOLD": str(folder / "told"),
                "STOP": str(folder / "stop"),
                "RATE": str(RATE / WRITERS),
                "SPARK": "yes" if spark else "",
            }
            if program == _PROGRAMS - 1:
                variables["DELTAQ_REDIS_URL"] = proxy.url
            command = [sys.executable, "-m", "tests.fault.soak.writer"]
            env = environment(**variables)
            programs.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
    try:
        yield programs
    finally:
        for writer in programs:
            writer.kill()
            writer.wait()


def _end_workers(system: System) -> None:
    for worker in system.workers:
        worker.terminate()
    wait_until(lambda: all(w.poll() is not None for w in system.workers), within=60)
    codes = {w.returncode for w in system.workers}
    assert codes <= {0, -signal.SIGKILL}, f"workers ended with {codes}"


def _report(
    folder: Path, system: System, chaos: Chaos, watch: Watch, *, lasted: float, seed: int
) -> Report:
    told = read_told(folder / "told")
    tables = sorted({request_id.partition("-")[0] for request_id in told})
    left = {table: leftovers(system, table) for table in tables}
    return Report(
        seconds=round(lasted, 1),
        seed=seed,
        faults=dict(chaos.faults),
        tables={
            table: judge(
                as_path(system.settings.lake) / table,
                {i: heard for i, heard in told.items() if i.startswith(f"{table}-")},
            )
            for table in tables
        },
        leftovers={table: found for table, found in left.items() if found},
        unforeseen=_unforeseen(system.log),
        samples=watch.samples,
    )


def _unforeseen(log: Path) -> list[str]:
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if "raised unexpected" in line or " CRITICAL " in line]


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
