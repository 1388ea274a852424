"""What every benchmark needs: a place, how much to do, turns, writers that start together."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltaq.tasks.settings import load_settings
from deltaq.worker import System, embedded
from deltaq.worker.warm import WarmSpark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Seconds for whatever must end by itself.
PATIENCE = 600.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """How to run benchmarks.

    Attributes:
        folder: Where lakes and bare tables are made.
        rounds: How often each side has its turn in a comparison of rates.
        quick: Do a small part of the work, to see that everything works.
        say: Tells how far it is.
        rows: Rows to load, where a benchmark loads rows; by default as many as its goal says.
    """

    folder: Path
    rounds: int
    quick: bool
    say: Callable[[str], None]
    rows: int | None = None

    def size(self, full: int, quick: int) -> int:
        """Choose an amount of work."""
        return quick if self.quick else full

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """Make a folder for the length of a block."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def system(self, place: Path, **settings: Any) -> Iterator[System]:
        """Run Redis, durable as deployed, and one worker, whose Spark is off."""
        with embedded(place / "lake", spark="off", **settings) as system:
            system.wait_ready()
            yield system

    def rates(self, ways: Mapping[str, Callable[[], Race]]) -> dict[str, Races]:
        """Give each way its turn, ``rounds`` times after one turn to warm up."""
        races: dict[str, list[Race]] = {name: [] for name in ways}
        for number in range(self.rounds + 1):
            # Who goes first changes, as who goes second finds a warmer machine, or a fuller disk.
            for name in list(ways)[:: -1 if number % 2 else 1]:
                self.say(f"{name}, round {number} of {self.rounds}")
                race = ways[name]()
                if number:
                    races[name].append(race)
        return {name: Races(tuple(found)) for name, found in races.items()}

    def milliseconds(
        self, ways: Mapping[str, Callable[[], object]], *, times: int, warm_up: int
    ) -> dict[str, float]:
        """Time single calls, each way in turns; return the medians."""
        taken: dict[str, list[float]] = {name: [] for name in ways}
        self.say(f"{times} times in turns: {', '.join(ways)}")
        for number in range(warm_up + times):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                if number >= warm_up:
                    taken[name].append(1000 * (time.perf_counter() - began))
        return {name: statistics.median(found) for name, found in taken.items()}


@dataclass(frozen=True, kw_only=True)
class Race:
    """What writers that started together did."""

    seconds: float
    done: int
    failed: int

    @property
    def rate(self) -> float:
        """Successes per second."""
        return self.done / self.seconds


@dataclass(frozen=True)
class Races:
    """The races of one side."""

    races: tuple[Race, ...]

    @property
    def rate(self) -> float:
        """The median of the rates."""
        return statistics.median(race.rate for race in self.races)

    @property
    def spread(self) -> str:
        """The lowest and the highest of the rates."""
        rates = [race.rate for race in self.races]
        return f"{min(rates):.0f} to {max(rates):.0f}"

    @property
    def failed(self) -> int:
        """How many writes failed in all."""
        return sum(race.failed for race in self.races)

    @property
    def failed_share(self) -> str:
        """Which part of the writes failed, in percent."""
        return f"{100 * self.failed / sum(r.done + r.failed for r in self.races):.1f} %"


def local_lake(system: System) -> Path:
    """Locate the tables of a system that has them on a disk."""
    lake = system.settings.lake
    assert isinstance(lake, Path)
    return lake


def race(writers: Sequence[Callable[[], tuple[int, int]]]) -> Race:
    """Let writers start together, a thread for each.

    Args:
        writers: Each returns how many of its writes succeeded and how many failed.
    """
    counts: list[tuple[int, int]] = []
    gate = threading.Barrier(len(writers) + 1)

    def run(writer: Callable[[], tuple[int, int]]) -> None:
        gate.wait()
        counts.append(writer())

    threads = [threading.Thread(target=run, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if len(counts) < len(writers):
        raise RuntimeError("a writer ended with an error, see above")
    done, failed = (sum(column) for column in zip(*counts, strict=True))
    return Race(seconds=seconds, done=done, failed=failed)


@contextlib.contextmanager
def warm_spark(place: Path) -> Iterator[SparkSession]:
    """Keep a SparkSession warm in this process, configured as the worker's is."""
    settings: dict[str, Any] = {"lake": place / "spark", "spark_master": "local[*]"}
    warm = WarmSpark(load_settings(**settings))
    warm.start()
    try:
        yield warm.session(PATIENCE)
    finally:
        warm.stop()
