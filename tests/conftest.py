"""Fixtures for every tier."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaq.tasks.location import Location, parse_location
from deltaq.tasks.settings import Settings, load_settings
from tests.support.class_archive import java_options
from tests.support.places import settings_of
from tests.support.redis import RedisServer
from tests.support.s3 import MotoServer, S3Server
from tests.support.s3_proxy import S3Proxy

os.environ.setdefault("JAVA_TOOL_OPTIONS", java_options())


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the run choose where lakes are."""
    parser.addoption(
        "--storage",
        choices=("disk", "s3"),
        default="disk",
        help="where lakes are; s3 leaves out the tests without one",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that is marked ``s3`` on a disk and in S3."""
    is_on_disk = metafunc.config.getoption("storage") == "disk"
    if is_on_disk and "place" in metafunc.fixturenames and _is_marked(metafunc, "s3"):
        metafunc.parametrize("place", ("disk", "s3"), indirect=True)


def _is_marked(metafunc: pytest.Metafunc, name: str) -> bool:
    return next(metafunc.definition.iter_markers(name), None) is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose what is about the storage."""
    if config.getoption("storage") != "disk":
        _leave_out_disks(config, items)


def _leave_out_disks(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has no lake, and skip what is about disks."""
    without = [item for item in items if not _has_lake(item)]
    config.hook.pytest_deselected(items=without)
    items[:] = [item for item in items if item not in without]
    for item in items:
        if mark := item.get_closest_marker("on_disk"):
            item.add_marker(pytest.mark.skip(reason=f"about disks: {mark.args[0]}"))


def _has_lake(item: pytest.Item) -> bool:
    is_marked = item.get_closest_marker("s3") is not None
    return is_marked or not {"place", "module_place"}.isdisjoint(getattr(item, "fixturenames", ()))


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
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    """An empty place for a lake, on a disk or in S3, where delta-rs finds it as well."""
    if getattr(request, "param", request.config.getoption("storage")) == "disk":
        yield tmp_path
        return
    with pytest.MonkeyPatch.context() as patch:  # a test may undo its own
        yield _place_in_s3(request.getfixturevalue("s3_server"), patch)


@pytest.fixture(scope="module")
def module_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Location]:
    """An empty place for a lake that a module's tests share."""
    if request.config.getoption("storage") == "disk":
        yield tmp_path_factory.mktemp("module")
        return
    with pytest.MonkeyPatch.context() as patch:
        yield _place_in_s3(request.getfixturevalue("s3_server"), patch)


def _place_in_s3(server: S3Server, patch: pytest.MonkeyPatch) -> Location:
    for name, value in server.storage_options().items():
        patch.setenv(name, value)
    return parse_location(_url(server), server.options())


@pytest.fixture
def settings(redis_server: RedisServer, place: Location, tmp_path: Path) -> Settings:
    """Settings for an empty lake and the run's server."""
    return load_settings(
        lake=place / "lake",
        redis_url=redis_server.url,
        backfill_sources=[tmp_path],
        **settings_of(place),
    )


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
    return _url(s3_server)


def _url(server: S3Server) -> str:
    return f"s3://{server.bucket}/{secrets.token_hex(6)}"
