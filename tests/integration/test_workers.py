"""The signs of life of workers, as Redis keeps them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from deltaq.tasks import keys
from deltaq.tasks.connection import Scripts, connect
from deltaq.tasks.settings import Settings
from deltaq.tasks.workers import LOST_AFTER, REMEMBERED, WorkerFacts, beat, leave, read_workers


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    with connect(settings) as client:
        yield client


def silence(client: redis.Redis, name: str, seconds: float) -> None:
    """Let a worker's last sign of life be so long ago."""
    client.zincrby(keys.WORKERS, -seconds * 1000, name)


def test_what_a_worker_tells_is_read_by_whoever_asks(client: redis.Redis) -> None:
    facts = WorkerFacts(
        name="b@host", queues=("commits",), slots=4, busy=1, problems={"lake": "full"}
    )
    beat(Scripts(client), facts)
    beat(Scripts(client), WorkerFacts(name="a@host"))

    found = read_workers(client)

    assert [w.facts.name for w in found] == ["a@host", "b@host"]
    assert found[1].facts == facts
    assert not any(w.is_lost for w in found)


def test_a_silent_worker_is_lost_until_it_gives_a_sign_of_life(client: redis.Redis) -> None:
    beat(Scripts(client), WorkerFacts(name="a@host"))
    silence(client, "a@host", LOST_AFTER + 1)
    (lost,) = read_workers(client)
    assert lost.is_lost

    beat(Scripts(client), WorkerFacts(name="a@host"))

    (back,) = read_workers(client)
    assert not back.is_lost


def test_a_worker_that_left_is_not_missed(client: redis.Redis) -> None:
    beat(Scripts(client), WorkerFacts(name="a@host"))

    leave(client, "a@host")

    assert read_workers(client) == []
    assert client.keys("dq:worker*") == []


def test_a_worker_that_was_lost_long_ago_is_forgotten(client: redis.Redis) -> None:
    beat(Scripts(client), WorkerFacts(name="old@host"))
    silence(client, "old@host", REMEMBERED + 1)

    beat(Scripts(client), WorkerFacts(name="new@host"))

    assert client.zrange(keys.WORKERS, 0, -1) == ["new@host"]
    assert 0 < int(client.pttl(keys.worker("old@host"))) <= REMEMBERED * 1000
    assert 0 < int(client.pttl(keys.WORKERS)) <= REMEMBERED * 1000


def test_workers_give_signs_of_life_when_redis_is_at_its_memory_limit(client: redis.Redis) -> None:
    client.config_set("maxmemory", 1)

    beat(Scripts(client), WorkerFacts(name="a@host"))

    assert [w.facts.name for w in read_workers(client)] == ["a@host"]
