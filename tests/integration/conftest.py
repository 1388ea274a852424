"""Fixtures of the tests that run against real servers and engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deltaq.client import Client
from deltaq.tasks.location import Location
from deltaq.tasks.settings import Settings, load_settings
from deltaq.worker.warm import WarmSpark
from tests.support.bench import Bench
from tests.support.load_bench import Loads
from tests.support.player import Player
from tests.support.reading import ReadingWorker
from tests.support.s3 import S3Server
from tests.support.shell import Forks, Shell
from tests.support.twins import Twins


@pytest.fixture(scope="session")
def spark_settings(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Settings:
    """Settings of the run's Spark, which knows S3 as well; its JARs are of the user's cache."""
    return load_settings(
        lake=tmp_path_factory.mktemp("spark") / "lake",
        staging=f"s3://{s3_server.bucket}/staging",
        spark_master="local[2]",
        **s3_server.settings(),
    )


@pytest.fixture(scope="session")
def warm_spark(spark_settings: Settings) -> Iterator[WarmSpark]:
    """The one Spark of the run, warm; pyspark allows no second one in a process."""
    warm = WarmSpark(spark_settings)
    warm.start()
    try:
        warm.session(timeout=240)
        yield warm
    finally:
        warm.stop()


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """A client of the run's server."""
    with Client(settings) as client:
        yield client


@pytest.fixture
def player(settings: Settings) -> Iterator[Player]:
    """A worker as far as Redis sees one."""
    player = Player(settings)
    yield player
    player.close()


@pytest.fixture
def worker(settings: Settings) -> Iterator[ReadingWorker]:
    """A worker that only answers queries."""
    with ReadingWorker(settings) as worker:
        yield worker


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """What runs the commands of all terminals."""
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def shell(settings: Settings, tmp_path: Path, forks: Forks) -> Shell:
    """A terminal in an empty folder."""
    return Shell(settings, tmp_path, forks)


@pytest.fixture
def twins(place: Location, warm_spark: WarmSpark) -> Twins:
    """Two tables, one for each engine."""
    return Twins(place, warm_spark)


@pytest.fixture
def loads(settings: Settings, tmp_path: Path) -> Iterator[Loads]:
    """What of a worker concerns backfills."""
    loads = Loads(settings, tmp_path)
    yield loads
    loads.close()


@pytest.fixture
def loader(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Loads]]:
    """Make workers of other settings."""
    made: list[Loads] = []

    def make(**more: Any) -> Loads:
        given = load_settings(**{**settings.model_dump(exclude_unset=True), **more})
        made.append(Loads(given, tmp_path))
        return made[-1]

    yield make
    for loads in made:
        loads.close()


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    """A committer whose slices do not rest: what happens between two is the test's to say."""
    bench = Bench(load_settings(**settings.model_dump(exclude_unset=True), maintenance_share=1))
    yield bench
    bench.close()
