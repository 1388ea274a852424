"""``python -m benchmarks.scale``: measure the constants of the capacity model, and check it.

Three kinds of work give the constants, two others are held against what the model says of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import psutil
import redis
import typer
from rich.console import Console
from tests.support.player import Player

from benchmarks.run import PATIENCE, Run, race
from benchmarks.scale_model import Costs, Deployment, Load, Point, fit, most, request_milliseconds
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
    """Work that the model was not fitted to, as it says and as measured.

    Attributes:
        name: What was done.
        predicted_ms, measured_ms: Core of clients, worker and Redis for a request.
        predicted_rate, measured_rate: Requests a second, which are those of the machine, too: as
            predicted if nobody else wants its cores.
    """

    name: str
    predicted_ms: float
    measured_ms: float
    predicted_rate: float
    measured_rate: float

    @property
    def off(self) -> float:
        """By which part the cost is off."""
        return self.predicted_ms / self.measured_ms - 1


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
    for one in found.checks:
        console.print(
            f"{one.name}: {one.predicted_ms} ms for a request by the model, {one.measured_ms} ms "
            f"measured, {100 * one.off:+.0f} %; {one.predicted_rate}/s and {one.measured_rate}/s"
        )
    if not quick and any(abs(one.off) > TOLERANCE for one in found.checks):
        console.print("[red]the model is off by more than it may be")
        raise typer.Exit(1)


def measure(run: Run) -> Measured:
    """Measure everything on this machine."""
    redis_base, kept = _redis(run)
    rest = {**kept, **s3_costs(run)}
    with run.place() as place, run.system(place) as system, clients(system, _WRITERS) as made:
        idle = (*_idle(run, system), redis_base)
        rest["commit_seconds"] = _alone_seconds(run, made)
        points = {name: work(run, system, made) for name, work in _FITTED.items()}
        others = [work(run, system, made) for work in _CHECKED]
    cores, together = os.cpu_count() or 1, points["together"]
    used = together.client + together.worker + together.redis
    rest["busy_share"] = min(1.0, used / together.seconds / cores)
    costs = fit(points, idle, rest)
    return Measured(
        cores=cores,
        costs=costs,
        points=[*points.values(), *others],
        checks=[check(point, costs, cores) for point in others],
    )


def check(point: Point, costs: Costs, cores: int) -> Check:
    """Hold the model against a point, on one machine for all."""
    members = point.requests / point.commits
    # What one table carries is not what limits here.
    load = Load(tables=10**6, megabytes=point.megabytes / point.requests, in_commit=members)
    here = Deployment(workers=cores, concurrency=1000, outcome_days=0.0, shared_cores=cores)
    idle = point.seconds * (costs.worker_idle + costs.redis_idle + costs.redis_base)
    used = 1000 * (point.client + point.worker + point.redis) - idle
    return Check(
        name=point.name,
        predicted_ms=round(request_milliseconds(load, members, costs), 2),
        measured_ms=round(used / point.requests, 2),
        predicted_rate=round(most(load, here, costs)[0], 1),
        measured_rate=round(point.requests / point.seconds, 1),
    )


def _alone_seconds(run: Run, made: Sequence[Client]) -> float:
    """Tell how long one append takes from submission to outcome when nothing else is to do."""
    run.say("one append after the other")
    seconds = []
    for number in range(run.size(50, 3)):
        began = time.perf_counter()
        made[0].append("alone", frame(1, number)).result(PATIENCE)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _apart(run: Run, system: System, made: Sequence[Client]) -> Point:
    """Ten writers that wait for each result: few appends share a commit."""
    return _raced(run, system, made, "apart", each=run.size(60, 3), waiting=True)


def _together(run: Run, system: System, made: Sequence[Client]) -> Point:
    """Ten writers that gather their futures: many appends share a commit."""
    return _raced(run, system, made, "together", each=run.size(300, 5))


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
    """Ten writers, and frames of ten thousand rows."""
    return _raced(run, system, made, "frames of 10,000 rows", each=run.size(60, 2), rows=10_000)


_FITTED = {"apart": _apart, "together": _together, "large": _large}
_CHECKED = (_tables_200, _larger)


def _raced(
    run: Run,
    system: System,
    made: Sequence[Client],
    name: str,
    *,
    each: int,
    tables: int = 1,
    rows: int = 1000,
    waiting: bool = False,
) -> Point:
    """Have each writer append to tables in turns, its own or, if there is one, that of all.

    With ``waiting`` a writer has a result before it writes again.
    """
    frames = [frame(1, number, rows) for number in range(each)]
    prefix = name.replace(" ", "_").replace(",", "")
    futures: list[Future[Outcome]] = []

    def own(writer: int) -> list[str]:
        return [f"{prefix}_{writer if tables > 1 else ''}_{n}" for n in range(tables)]

    def write(client: Client, writer: int) -> tuple[int, int]:
        names, mine = own(writer), []
        for number, one in enumerate(frames):
            mine.append(client.append(names[number % tables], one))
            if waiting:
                mine[-1].result(PATIENCE)
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
        self._redis = system.redis.connect()
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
        seconds, client, worker, of_redis = (round(value, 4) for value in self._took)
        return Point(
            name=self._name,
            requests=len(self._outcomes),
            commits=round(sum(1 / (o.group_size or 1) for o in self._outcomes), 2),
            megabytes=round(self._megabytes, 3),
            seconds=seconds,
            client=client,
            worker=worker,
            redis=of_redis,
        )

    def _read(self) -> list[float]:
        worker = self._worker.cpu_times()
        redis_used = _redis_seconds(self._redis)
        return [time.perf_counter(), time.process_time(), worker.user + worker.system, redis_used]


@contextlib.contextmanager
def _metered(run: Run, system: System, name: str) -> Iterator[_Meter]:
    run.say(name)
    meter = _Meter(name, system)
    yield meter
    meter.stop()


def _idle(run: Run, system: System) -> tuple[float, float]:
    """Tell what a worker without work, and its Redis, use: milliseconds a second."""
    with _metered(run, system, "a worker without work") as meter:
        time.sleep(run.size(20, 1))
    point = meter.point()
    return 1000 * point.worker / point.seconds, 1000 * point.redis / point.seconds


def _redis(run: Run) -> tuple[float, dict[str, float]]:
    """Tell what Redis uses by itself, milliseconds a second, and keeps of each request."""
    run.say("Redis by itself")
    spawner = Spawner()
    with run.place() as place:
        server = RedisServer(place / "redis", spawner)
        server.start()
        with server.connect() as client:
            began, seconds = _redis_seconds(client), run.size(10, 1)
            time.sleep(seconds)
            by_itself = 1000 * (_redis_seconds(client) - began) / seconds
        player = Player(load_settings(lake=place / "lake", redis_url=server.url))
        kept = _kept(player, tables=run.size(50, 5))
        player.client.close()
        server.stop()
    spawner.close()
    return by_itself, kept


def _kept(player: Player, *, tables: int) -> dict[str, float]:
    """Tell how many bytes Redis keeps of a request that waits, and of one that is settled."""

    def used() -> int:
        told: Any = player.client.info("memory")
        return int(told["used_memory"])

    count = 100 * tables
    empty = used()
    for number in range(count):
        player.inbox.submit(_request(f"t{number % tables}"))
    waiting = used()
    for number in range(tables):
        player.commit_all(f"t{number}")
    return {
        "waiting_bytes": (waiting - empty) / count,
        "outcome_bytes": (used() - empty) / count,
    }


def _redis_seconds(client: redis.Redis) -> float:
    """Tell the processor time that Redis has used, finer than the system tells it."""
    told: Any = client.info("cpu")
    return float(told["used_cpu_user"] + told["used_cpu_sys"])


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
