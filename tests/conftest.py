"""Fixtures for every tier."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaq.tasks.settings import Settings, load_settings
from tests.support.redis import RedisServer
from tests.support.s3 import MotoServer, S3Server
from tests.support.s3_proxy import S3Proxy


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


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for the run, with an empty bucket; each test takes a prefix of its own."""
    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """Another S3 server for the run, by other people."""
    with MotoServer() as server:
        yield server


@pytest.fixture
def s3_proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    """A proxy before the run's S3 server, which may be told to do harm."""
    with S3Proxy(s3_server) as proxy:
        yield proxy


@pytest.fixture
def s3_url(s3_server: S3Server) -> str:
    """An empty place in the bucket, as s3://bucket/prefix."""
    return f"s3://{s3_server.bucket}/{secrets.token_hex(6)}"
