"""Fixtures of the tests that run against real servers and engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deltaq.tasks.settings import Settings, load_settings
from deltaq.worker.warm import WarmSpark


@pytest.fixture(scope="session")
def spark_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the run's Spark; Delta's JARs are those of the user's cache."""
    return load_settings(lake=tmp_path_factory.mktemp("spark") / "lake", spark_master="local[2]")


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
