"""A worker says what Redis' settings put at risk."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import redis

from deltaq.worker.redis_check import check_redis
from tests.support.redis import RedisServer


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    """A client of a server that is set as it should be."""
    with own_redis.client() as client:
        client.config_set("appendfsync", "always")
        yield client


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "deltaq.worker.redis_check")
    return caplog


def test_nothing_is_said_of_a_redis_that_keeps_what_it_accepts(
    client: redis.Redis, log: pytest.LogCaptureFixture
) -> None:
    check_redis(client)

    assert log.records == []


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [
        ("appendonly", "no", "appendonly is no and must be yes"),
        ("appendfsync", "everysec", "appendfsync is everysec and should be always"),
        ("maxmemory-policy", "allkeys-lru", "maxmemory-policy is allkeys-lru"),
        ("maxmemory-policy", "volatile-ttl", "maxmemory-policy is volatile-ttl"),
    ],
)
def test_a_setting_that_may_lose_requests_is_named_with_what_it_must_be(
    client: redis.Redis, log: pytest.LogCaptureFixture, setting: str, value: str, wanted: str
) -> None:
    client.config_set(setting, value)

    check_redis(client)

    (record,) = log.records
    assert record.levelno == logging.WARNING
    assert wanted in record.getMessage()


def test_all_weaknesses_are_one_warning(client: redis.Redis, log: pytest.LogCaptureFixture) -> None:
    client.config_set("appendfsync", "no")
    client.config_set("maxmemory-policy", "allkeys-random")

    check_redis(client)

    (record,) = log.records
    assert "appendfsync" in record.getMessage()
    assert "maxmemory-policy" in record.getMessage()


def test_what_an_acl_hides_is_told_quietly_and_the_rest_is_checked(
    client: redis.Redis, own_redis: RedisServer, log: pytest.LogCaptureFixture
) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.acl_setuser(
        "worker", enabled=True, nopass=True, commands=["+@read", "+info", "-config"], keys=["*"]
    )
    url = own_redis.url.replace("unix://", "unix://worker:any@")

    with redis.Redis.from_url(url, decode_responses=True) as limited:
        check_redis(limited)

    quiet, loud = log.records
    assert (quiet.levelno, loud.levelno) == (logging.INFO, logging.WARNING)
    assert "CONFIG GET was refused" in quiet.getMessage()
    assert "maxmemory-policy" in loud.getMessage()


def test_a_redis_that_is_down_keeps_nobody_from_starting(
    client: redis.Redis, own_redis: RedisServer, log: pytest.LogCaptureFixture
) -> None:
    own_redis.kill()

    check_redis(client)

    (record,) = log.records
    assert record.levelno == logging.INFO
    own_redis.start()
