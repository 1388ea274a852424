"""One event loop beside ten threads."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Sequence
from itertools import chain, count

import pyarrow as pa

from benchmarks.results import Result, compared, limited
from benchmarks.run import PATIENCE, Race, Run, race
from benchmarks.tables import ROWS, Audit, audit, total
from benchmarks.work import APPEND
from benchmarks.writers import clients, queued
from deltaq.client import AsyncClient, DeltaqError
from deltaq.worker import System

_THREADS = 10
#: Seconds between two ticks.
_TICK = 0.001


def async_5000(run: Run) -> list[Result]:
    """All appends gathered in one event loop, against threads that gather their futures."""
    contest = _Contest(run, run.size(5000, 30))
    return contest.results()


class _Contest:
    """One loop against threads; every race is on a table of its own."""

    def __init__(self, run: Run, appends: int) -> None:
        self._run = run
        self._appends = appends
        self._tables = (f"table_{n}" for n in count())
        self._audits: list[Audit] = []
        self._blocked: list[float] = []

    def results(self) -> list[Result]:
        """Hold the races."""
        with self._run.place() as place, self._run.system(place) as system:
            races = self._run.rates(
                {"loop": lambda: self._loop(system), "threads": lambda: self._threads(system)}
            )
        found = total(self._audits)
        notes = f"{self._appends} appends of {ROWS} rows: {found}"
        return [
            compared(
                "async_5000",
                races["loop"].rate,
                races["threads"].rate,
                baseline_name=f"{_THREADS} threads with a client each",
                unit="appends/s",
                goal=("at least", 0.9),
                notes=f"one AsyncClient, {notes}",
                correct=found.clean,
            ),
            limited(
                "async_5000_blocked",
                1000 * max(self._blocked),
                unit="ms",
                goal=("at most", 20),
                notes=f"longest time between two ticks of the loop, beyond {_TICK:g} s; {notes}",
                correct=found.clean,
            ),
        ]

    def _loop(self, system: System) -> Race:
        table, frames = next(self._tables), APPEND.frames(1, self._appends)
        done = asyncio.run(self._gathered(system, table, frames[0]))
        self._audit(system, table, frames, done)
        return done

    async def _gathered(self, system: System, table: str, frames: Sequence[pa.Table]) -> Race:
        async with AsyncClient(system.settings) as client:
            await (await client.append(table, APPEND.first()))

            async def append(frame: pa.Table) -> bool:
                try:
                    await (await client.append(table, frame))
                except DeltaqError:
                    return False
                return True

            began = time.perf_counter()
            async with self._ticking(), asyncio.timeout(PATIENCE):
                told = await asyncio.gather(*map(append, frames))
            seconds = time.perf_counter() - began
        return Race(seconds=seconds, done=sum(told), failed=len(told) - sum(told))

    @contextlib.asynccontextmanager
    async def _ticking(self) -> AsyncIterator[None]:
        """Note for how long the loop does not come round."""

        async def tick() -> None:
            last = time.perf_counter()
            while True:
                await asyncio.sleep(_TICK)
                now = time.perf_counter()
                self._blocked.append(now - last - _TICK)
                last = now

        # What the benchmark itself has loaded is not to be collected meanwhile.
        gc.collect()
        gc.freeze()
        ticker = asyncio.create_task(tick())
        try:
            yield
        finally:
            ticker.cancel()
            gc.unfreeze()

    def _threads(self, system: System) -> Race:
        table, frames = next(self._tables), APPEND.frames(_THREADS, self._appends // _THREADS)
        with clients(system, _THREADS) as made:
            made[0].append(table, APPEND.first()).result(PATIENCE)
            done = race(queued(APPEND, table, made, frames, waiting=False))
        self._audit(system, table, frames, done)
        return done

    def _audit(
        self, system: System, table: str, frames: Sequence[Sequence[pa.Table]], done: Race
    ) -> None:
        written = chain([APPEND.first()], *frames)
        self._audits.append(audit(system.settings.lake / table, written, failed=done.failed))
