"""``python -m benchmarks.scale``: measure the constants of the capacity model, and check it.

Three kinds of work give the constants, two others are held against what the model says of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import psutil
import typer
from rich.console import Console
from tests.support.player import Player

from benchmarks.run import PATIENCE, Run, race
from benchmarks.scale_model import Costs, Deployment, Load, Point, fit, most
from benchmarks.scale_s3 import s3_costs
from benchmarks.tables import frame
from benchmarks.writers import clients
from deltaq.client import Client, Future, Outcome
from deltaq.tasks.request import Append, new_request_id
from deltaq.tasks.settings import load_settings
from deltaq.worker import System
from deltaq.worker.processes import Spawner
from deltaq.worker.redis_server import RedisServer

OUT = Path(__file__).parent / "results" / "scale.json"
#: How far a prediction may be off, as a part of what was measured.
TOLERANCE = 0.3
_WRITERS = 10
_MB = 1e6


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A rate that the model was not fitted to: as it says, and as measured; requests a second."""

    name: str
    predicted: float
    measured: float

    @property
    def off(self) -> float:
        """By which part the prediction is off."""
        return self.predicted / self.measured - 1


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The constants, what they were found from, and how the model did."""

    cores: int
    costs: Costs
    points: list[Point]
    checks: list[Check]


def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="A little of each; figures mean nothing.")
    ] = False,
    out: Annotated[Path, typer.Option(help="JSON file of what was found.")] = OUT,
) -> None:
    """Measure the constants of the capacity model, and hold it against two other measurements."""
    logging.basicConfig(level=logging.ERROR)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as place, console.status("") as status:
        run = Run(folder=Path(place), rounds=1, quick=quick, say=status.update)
        found = measure(run)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    for check in found.checks:
        console.print(
            f"{check.name}: {check.predicted:.0f}/s by the model, {check.measured:.0f}/s measured, "
            f"{100 * check.off:+.0f} %"
        )
    if not quick and any(abs(check.off) > TOLERANCE for check in found.checks):
        console.print("[red]the model is off by more than it may be")
        raise typer.Exit(1)


def measure(run: Run) -> Measured:
    """Measure everything on this machine."""
    rest = {**_memory(run), **s3_costs(run)}
    with run.place() as place, run.system(place) as system, clients(system, _WRITERS) as made:
        idle = _idle(run, system)
        points = {name: work(run, system, made) for name, work in _FITTED.items()}
        others = [work(run, system, made) for work in _CHECKED]
    cores, together = os.cpu_count() or 1, points["together"]
    used = together.client + together.worker + together.redis
    rest["commit_seconds"] = _alone_seconds(points["alone"])
    rest["busy_share"] = min(1.0, used / together.seconds / cores)
    costs = fit(points, idle, rest)
    return Measured(
        cores=cores,
        costs=costs,
        points=[*points.values(), *others],
        checks=[_check(point, costs, cores) for point in others],
    )


def _check(point: Point, costs: Costs, cores: int) -> Check:
    """Hold the model against a point, on one machine for all."""
    load = Load(
        tables=1_000_000,  # what one table carries is not what limits here
        megabytes=point.megabytes / point.requests,
        in_commit=point.requests / point.commits,
    )
    here = Deployment(workers=cores, concurrency=1000, outcome_days=0.0, shared_cores=cores)
    predicted, _ = most(load, here, costs)
    measured = point.requests / point.seconds
    return Check(name=point.name, predicted=round(predicted, 1), measured=round(measured, 1))


def _alone(run: Run, system: System, made: Sequence[Client]) -> Point:
    """One append after the other to one table: each has a commit of its own."""
    with _metered(run, system, "alone") as meter:
        for number in range(run.size(200, 5)):
            future = made[0].append("alone", frame(1, number))
            future.result(PATIENCE)
            meter.note(future, megabytes=_MEGABYTES)
    return meter.point()


def _together(run: Run, system: System, made: Sequence[Client]) -> Point:
    """Ten writers that gather their futures: many appends share a commit."""
    return _raced(run, system, made, "together", tables=1, each=run.size(300, 5))


def _large(run: Run, system: System, made: Sequence[Client]) -> Point:
    """Some large frames, one after the other."""
    rows = run.size(500_000, 5000)
    frames = [frame(1, number, rows) for number in range(run.size(10, 2))]
    with _metered(run, system, "large") as meter:
        for one in frames:
            future = made[0].append("large", one)
            future.result(PATIENCE)
            meter.note(future, megabytes=one.nbytes / _MB)
    return meter.point()


def _tables_200(run: Run, system: System, made: Sequence[Client]) -> Point:
    """Ten writers, and two hundred tables."""
    return _raced(run, system, made, "200 tables", tables=20, each=run.size(100, 20))


def _larger(run: Run, system: System, made: Sequence[Client]) -> Point:
    """Ten writers, and frames of twenty thousand rows."""
    return _raced(run, system, made, "frames of 20,000 rows", each=run.size(30, 2), rows=20_000)


_FITTED = {"alone": _alone, "together": _together, "large": _large}
_CHECKED = (_tables_200, _larger)
_MEGABYTES = frame(1, 0).nbytes / _MB


def _raced(
    run: Run,
    system: System,
    made: Sequence[Client],
    name: str,
    *,
    each: int,
    tables: int = 1,
    rows: int = 1000,
) -> Point:
    """Have each writer append to tables in turns, its own or, if there is one, that of all."""
    frames = [frame(1, number, rows) for number in range(each)]
    prefix = name.replace(" ", "_").replace(",", "")
    futures: list[Future[Outcome]] = []

    def own(writer: int) -> list[str]:
        return [f"{prefix}_{writer if tables > 1 else ''}_{n}" for n in range(tables)]

    def write(client: Client, writer: int) -> tuple[int, int]:
        names = own(writer)
        mine = [client.append(names[n % tables], one) for n, one in enumerate(frames)]
        for future in mine:
            future.result(PATIENCE)
        futures.extend(mine)
        return len(mine), 0

    # A table's first commit makes it, which is not what is to be measured.
    first = [made[0].append(table, frames[0]) for w in range(_WRITERS) for table in own(w)]
    for future in first:
        future.result(PATIENCE)
    with _metered(run, system, name) as meter:
        race([partial(write, client, writer) for writer, client in enumerate(made)])
    for future in futures:
        meter.note(future, megabytes=frames[0].nbytes / _MB)
    return meter.point()


class _Meter:
    """Counts what a piece of work took."""

    def __init__(self, name: str, system: System) -> None:
        self._name = name
        self._worker = psutil.Process(system.worker_pids[0])
        self._redis = psutil.Process(system.redis.pid)
        self._outcomes: list[Outcome] = []
        self._megabytes = 0.0
        self._began = self._read()
        self._took: list[float] = []

    def note(self, future: Future[Outcome], *, megabytes: float) -> None:
        """Note a request that was committed."""
        self._outcomes.append(future.result())
        self._megabytes += megabytes

    def stop(self) -> None:
        """Count no further."""
        self._took = [b - a for a, b in zip(self._began, self._read(), strict=True)]

    def point(self) -> Point:
        """Tell what it took."""
        seconds, client, worker, redis = (round(value, 4) for value in self._took)
        return Point(
            name=self._name,
            requests=len(self._outcomes),
            commits=round(sum(1 / (o.group_size or 1) for o in self._outcomes), 2),
            megabytes=round(self._megabytes, 3),
            seconds=seconds,
            client=client,
            worker=worker,
            redis=redis,
        )

    def _read(self) -> list[float]:
        others = [p.cpu_times() for p in (self._worker, self._redis)]
        used = (t.user + t.system for t in others)
        return [time.perf_counter(), time.process_time(), *used]


@contextlib.contextmanager
def _metered(run: Run, system: System, name: str) -> Iterator[_Meter]:
    run.say(name)
    meter = _Meter(name, system)
    yield meter
    meter.stop()


def _alone_seconds(alone: Point) -> float:
    return alone.seconds / alone.requests


def _idle(run: Run, system: System) -> tuple[float, float]:
    """Tell what a worker without work, and its Redis, use: milliseconds a second."""
    with _metered(run, system, "a worker without work") as meter:
        time.sleep(run.size(20, 1))
    point = meter.point()
    return 1000 * point.worker / point.seconds, 1000 * point.redis / point.seconds


def _memory(run: Run) -> dict[str, float]:
    """Tell what Redis keeps of a request that waits, and of one that is settled."""
    run.say("memory of Redis")
    tables, each = run.size(50, 5), 100
    spawner = Spawner()
    with run.place() as place:
        server = RedisServer(place / "redis", spawner)
        server.start()
        player = Player(load_settings(lake=place / "lake", redis_url=server.url))

        def used() -> int:
            told = player.client.info("memory")
            return int(told["used_memory"])

        empty = used()
        for number in range(tables * each):
            player.inbox.submit(_request(f"t{number % tables}"))
        waiting = used()
        for number in range(tables):
            player.commit_all(f"t{number}")
        settled = used()
        player.client.close()
        server.stop()
    spawner.close()
    count = tables * each
    return {"waiting_bytes": (waiting - empty) / count, "outcome_bytes": (settled - empty) / count}


def _request(table: str) -> Append:
    return Append(
        request_id=new_request_id(),
        table=table,
        client_id="c" * 32,
        submitted_at_ms=time.time_ns() // 1_000_000,
        digest=secrets.token_hex(16),
        size_bytes=32_000,
        rows=1000,
        shape="s",
    )


if __name__ == "__main__":
    typer.run(main)
