"""Real worker processes on a private Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaq.client import Client
from deltaq.worker import System, embedded


@pytest.fixture(scope="session")
def shared_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One worker with a warm Spark for all tests that do not hurt it."""
    with embedded(tmp_path_factory.mktemp("shared") / "lake", spark_master="local[2]") as system:
        system.wait_ready()
        yield system


@pytest.fixture
def client(shared_system: System) -> Iterator[Client]:
    with shared_system.client() as client:
        yield client


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"
