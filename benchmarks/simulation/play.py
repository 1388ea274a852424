"""The course of a simulation: who plays, what happens when, and what comes out of it."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import psutil
from rich.table import Table

from benchmarks.simulation.clients import Clients, Heard
from benchmarks.simulation.crew import Orders, serve, table_name
from benchmarks.simulation.figures import Fairness, Phase, Sample, fairness, phase
from deltaq.tasks import keys
from deltaq.tasks.settings import load_settings
from deltaq.worker.processes import Spawner
from deltaq.worker.redis_server import RedisServer

IDLE, BURST, STEADY, KILLED = (
    "nothing to do",
    "a request to each table at once",
    "a steady load",
    "a tenth of the workers killed",
)
#: Seconds without work, so that it can be seen what workers ask of Redis then.
_IDLE_SECONDS = 5.0
#: Seconds until all workers must be there, and until all requests must have an outcome.
_PATIENCE = 120.0
#: Seconds between two samples, and between two looks for outcomes that were not heard of.
_SAMPLE_EVERY, _LOOK_UP_EVERY = 0.5, 5.0


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """Who plays: as many tables and workers, the steady load, and how long a commit takes."""

    tables: int
    workers: int
    seconds: float
    rate: float
    concurrency: int
    commit_seconds: float
    processes: int

    @property
    def killed(self) -> int:
        """How many workers are killed."""
        return max(1, self.workers // 10)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulation found.

    Attributes:
        what: So that nobody takes it for a measurement.
        cast: Who played.
        cores: Of the machine.
        phases: What happened, one after another.
        fairness: Under the steady load, before workers were killed.
        commands: Of Redis in that time: how often a second, and microseconds of each; those that
            scripts call are counted too.
        submitted, lost, failed, misplaced: Requests; those without an outcome, those with another
            than committed, and groups that did not follow the one before.
        samples: How things stood, every half a second.
    """

    what: str = "a simulation: real Redis and scripts, engines replaced by a delay"
    cast: Cast
    cores: int
    phases: list[Phase]
    fairness: Fairness
    commands: dict[str, tuple[float, float]]
    submitted: int
    lost: int
    failed: int
    misplaced: int
    samples: list[Sample]

    @property
    def is_clean(self) -> bool:
        """Whether each request was committed once and in order."""
        return not (self.lost or self.failed or self.misplaced)


class Play:
    """A Redis, the processes of the workers, and the clients. Use it as a context manager.

    Args:
        cast: Who plays.
        folder: For the data of Redis.
        say: Tells how far it is.
    """

    def __init__(self, cast: Cast, folder: Path, *, say: Callable[[str], None]) -> None:
        self._cast = cast
        self._say = say
        self._lake = folder / "lake"
        self._spawner = Spawner()
        self._redis = RedisServer(folder / "redis", self._spawner)
        context = multiprocessing.get_context("spawn")
        self._kill, self._stop = context.Event(), context.Event()
        self._ready, self._told = context.Barrier(cast.processes + 1), context.Queue()
        reached = context.RawArray("q", cast.tables)
        self._crews = [
            context.Process(
                target=serve,
                args=(orders, reached, self._ready, self._kill, self._stop, self._told),
                daemon=True,
            )
            for orders in self._orders()
        ]
        self._samples: list[Sample] = []
        self._closing = threading.Event()
        self._sampler = threading.Thread(target=self._sample_on, daemon=True)

    def _orders(self) -> list[Orders]:
        cast = self._cast
        names = [f"simulated-{n}@here" for n in range(cast.workers)]
        return [
            Orders(
                lake=self._lake,
                redis_url=self._redis.url,
                names=tuple(names[n :: cast.processes]),
                killed=len(range(n, cast.killed, cast.processes)),
                concurrency=cast.concurrency,
                commit_seconds=cast.commit_seconds,
            )
            for n in range(cast.processes)
        ]

    def __enter__(self) -> Play:
        self._say(f"starting {self._cast.workers} workers")
        self._lake.mkdir()
        self._redis.start()
        self._info = self._redis.connect()
        self._make_known()
        for crew in self._crews:
            crew.start()
        self._ready.wait(_PATIENCE)
        settings = load_settings(lake=self._lake, redis_url=self._redis.url)
        self._clients = Clients(settings, self._cast.tables)
        self._players = [psutil.Process(), *(psutil.Process(c.pid) for c in self._crews)]
        self._began = time.monotonic()
        self._sampler.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        if self._sampler.ident is not None:
            self._sampler.join()
            self._clients.close()
        for crew in self._crews:
            crew.kill()
            crew.join()
        self._redis.stop()
        self._spawner.close()

    def run(self) -> Found:
        """Play it to the end."""
        cast, half = self._cast, self._cast.seconds / 2
        marks = [len(self._samples)]

        def play(name: str, part: Callable[[], None]) -> None:
            self._say(name)
            part()
            self._drain()
            self._wait_for_sample()
            marks.append(len(self._samples) - 1)

        play(IDLE, lambda: time.sleep(min(_IDLE_SECONDS, cast.seconds)))
        play(BURST, lambda: self._clients.burst(BURST))
        before, began = self._command_stats(), time.monotonic()
        play(STEADY, lambda: self._clients.steady(STEADY, rate=cast.rate, seconds=half))
        commands = _per_second(before, self._command_stats(), time.monotonic() - began)
        # Not at once: those who are killed are to have something in hand.
        threading.Timer(half / 4, self._kill.set).start()
        play(KILLED, lambda: self._clients.steady(KILLED, rate=cast.rate, seconds=half))
        heard = list(self._clients.heard)
        lost = self._clients.waiting()[0]
        names = (IDLE, BURST, STEADY, KILLED)
        parts = zip(names, marks, marks[1:], strict=False)
        return Found(
            cast=cast,
            cores=os.cpu_count() or 1,
            phases=[phase(n, self._samples[a : b + 1], heard) for n, a, b in parts],
            fairness=fairness([h for h in heard if h.phase == STEADY], cast.tables),
            commands=commands,
            submitted=len(heard) + lost,
            lost=lost,
            failed=self._clients.failed,
            misplaced=self._end_crews(),
            samples=self._samples,
        )

    def _drain(self) -> None:
        """Wait until all requests have an outcome, or the time is over."""
        deadline = time.monotonic() + _PATIENCE
        look_up = time.monotonic() + _LOOK_UP_EVERY
        while self._clients.waiting()[0] and time.monotonic() < deadline:
            time.sleep(0.05)
            if time.monotonic() > look_up:
                self._clients.look_up()
                look_up = time.monotonic() + _LOOK_UP_EVERY

    def _make_known(self) -> None:
        """Have Redis know the tables, as it does from their second commit on (vouch.lua)."""
        told: Any = self._info.info("server")
        pipeline = self._info.pipeline(transaction=False)
        for number in range(self._cast.tables):
            known: dict[Any, Any] = {"epoch": secrets.token_hex(8), "run": told["run_id"]}
            pipeline.hset(keys.seq(table_name(number)), mapping=known)
        pipeline.execute()

    def _end_crews(self) -> int:
        self._stop.set()
        return sum(self._told.get(timeout=_PATIENCE) for _ in self._crews)

    def _wait_for_sample(self) -> None:
        count = len(self._samples)
        while len(self._samples) == count and self._sampler.is_alive():
            time.sleep(0.01)

    def _sample_on(self) -> None:
        while not self._closing.wait(_SAMPLE_EVERY):
            self._samples.append(self._sample())

    def _sample(self) -> Sample:
        told: Any = self._info.info()
        waiting, oldest = self._clients.waiting()
        used = [player.cpu_times() for player in self._players]
        return Sample(
            seconds=round(time.monotonic() - self._began, 2),
            waiting=waiting,
            oldest_seconds=round(oldest, 2),
            commands=told["total_commands_processed"],
            redis_seconds=round(told["used_cpu_user"] + told["used_cpu_sys"], 3),
            players_seconds=round(sum(u.user + u.system for u in used), 2),
            memory_bytes=told["used_memory"],
            connections=told["connected_clients"],
        )

    def _command_stats(self) -> dict[str, dict[str, float]]:
        told: Any = self._info.info("commandstats")
        return {name.removeprefix("cmdstat_"): stats for name, stats in told.items()}


def _per_second(
    before: dict[str, dict[str, float]], after: dict[str, dict[str, float]], seconds: float
) -> dict[str, tuple[float, float]]:
    found = {}
    for name, stats in after.items():
        earlier = before.get(name, {"calls": 0, "usec": 0})
        calls, usec = (stats[field] - earlier[field] for field in ("calls", "usec"))
        if calls:
            found[name] = (round(calls / seconds, 1), round(usec / calls, 1))
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def as_table(found: Found) -> Table:
    """Lay out what was found for the terminal."""
    table = Table(title=found.what)
    for heading, values in rows(found.phases):
        if not table.columns:
            table.add_column("")
            for value in values:
                table.add_column(value, justify="right")
        else:
            table.add_row(heading, *values)
    fair = found.fairness
    table.caption = (
        f"{found.submitted} requests: {found.lost} lost, {found.failed} failed, "
        f"{found.misplaced} out of order; Jain's index of {found.cast.tables} tables {fair.jain}, "
        f"hot ones {fair.hot_median_seconds} s, others {fair.cold_median_seconds} s"
    )
    return table


def rows(phases: Sequence[Phase]) -> list[tuple[str, list[str]]]:
    """Lay out phases as columns: a heading, then what each of them has."""
    wanted: dict[str, Callable[[Phase], str]] = {
        "": lambda p: p.name,
        "seconds, with what was left to do": lambda p: f"{p.seconds:.0f}",
        "requests": lambda p: f"{p.requests:,}",
        "submit to outcome, median": lambda p: f"{p.median_seconds:.2f} s",
        "99 of 100 within": lambda p: f"{p.p99_seconds:.2f} s",
        "oldest": lambda p: f"{p.oldest_seconds:.2f} s",
        "commands of Redis, a second": lambda p: f"{p.commands_per_second:,.0f}",
        "cores of Redis": lambda p: f"{p.redis_cores:.2f}",
        "cores of workers and clients": lambda p: f"{p.players_cores:.2f}",
        "memory of Redis": lambda p: f"{p.memory_bytes / (1 << 20):.0f} MiB",
        "connections of Redis": lambda p: f"{p.connections:,}",
    }
    return [(heading, [tell(p) for p in phases]) for heading, tell in wanted.items()]


__all__ = ["Cast", "Found", "Heard", "Play", "as_table", "rows"]
