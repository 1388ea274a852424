"""Fixtures for every tier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaq.tasks.settings import Settings, load_settings
from tests.support.redis import RedisServer


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One server for the run; tests must not stop it."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> Iterator[RedisServer]:
    """The run's server, empty and with its default configuration."""
    with shared_redis.client() as client:
        client.flushall()
        yield shared_redis
        client.config_set("maxmemory", 0)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server for one test, which may stop, kill and restart it; it keeps its data on disk."""
    with RedisServer(durable=True) as server:
        yield server


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> Settings:
    """Settings for an empty lake and the run's server."""
    return load_settings(lake=tmp_path / "lake", redis_url=redis_server.url)
