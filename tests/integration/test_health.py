"""What keeps a worker from being ready, each provoked and mended."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaq.tasks.connection import Scripts
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.workers import WorkerFacts, beat, read_workers
from deltaq.worker.disks import Disks, look_at
from deltaq.worker.health import Health, Heartbeat
from deltaq.worker.warm import WarmSpark, WarmState
from tests.support.disk import small_disk
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until


def make_health(settings: Settings, warm: WarmSpark | None = None) -> Health:
    health = Health(settings, name="w@test", warm=warm, stopping=threading.Event())
    health.serving.set()
    return health


def test_a_worker_that_starts_is_not_ready(settings: Settings) -> None:
    health = Health(settings, name="w@test", warm=None, stopping=threading.Event())
    assert list(health.problems()) == ["worker"]

    health.serving.set()

    assert health.problems() == {}


def test_a_worker_that_stops_is_not_ready(settings: Settings) -> None:
    stopping = threading.Event()
    health = Health(settings, name="w@test", warm=None, stopping=stopping)
    health.serving.set()
    stopping.set()

    assert "told to stop" in health.problems()["worker"]


def test_spark_is_a_problem_until_it_is_warm(settings: Settings) -> None:
    warm = WarmSpark(settings)
    health = make_health(settings, warm)
    assert (health.problems(), health.engines["spark"]) == (
        {"spark": "Spark is stopped"},
        "stopped",
    )

    warm.start()
    try:
        assert health.problems() == {"spark": "Spark is starting"}
    finally:
        warm.stop()


def test_spark_that_did_not_start_is_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "jars").write_text("no folder")
    settings = load_settings(lake=tmp_path, jars=tmp_path / "jars")
    warm = WarmSpark(settings)
    health = make_health(settings, warm)

    warm.start()
    try:
        wait_until(lambda: warm.state is WarmState.FAILED, within=30)
        assert str(tmp_path / "jars") in health.problems()["spark"]
    finally:
        warm.stop()


def test_a_disk_that_is_full_is_a_problem_until_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size="4m") as disk:
        folder = disk.root / "lake"
        assert look_at(folder, least=1 << 20).problem is None

        disk.fill()
        found = look_at(folder, least=1 << 20)
        assert found.problem is not None
        assert "0 bytes are free" in found.problem
        assert (found.free_bytes, found.size_bytes) == (0, 4 << 20)
        # Even without a limit: nothing can be written.
        assert "No space left" in str(look_at(folder, least=0).problem)

        disk.free()
        assert look_at(folder, least=1 << 20).problem is None
        assert list(disk.root.iterdir()) == []


def test_a_lake_that_is_no_folder_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("")

    assert "cannot be written" in str(look_at(tmp_path / "lake", least=0).problem)


def test_a_folder_that_cannot_be_used_is_logged_once_and_again_when_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lake = tmp_path / "lake"
    lake.write_text("no folder")
    disks = Disks(load_settings(lake=lake, staging=tmp_path / "staging"))
    disks.start()
    wait_until(lambda: "not ready: " in caplog.text)
    lake.unlink()
    wait_until(lambda: f"{lake} can be used again" in caplog.text)
    disks.close()

    assert caplog.text.count("not ready: ") == 1


@pytest.fixture
def heartbeat(own_redis: RedisServer, tmp_path: Path) -> Iterator[Heartbeat]:
    settings = load_settings(lake=tmp_path, redis_url=own_redis.url, redis_timeout=0.5)
    heartbeat = Heartbeat(settings, make_health(settings))
    yield heartbeat
    heartbeat.close()


def test_a_redis_that_is_away_is_a_problem_until_it_is_back(
    heartbeat: Heartbeat, own_redis: RedisServer
) -> None:
    health = heartbeat._health
    heartbeat.beat()
    assert health.problems() == {}

    own_redis.kill()
    heartbeat.beat()
    assert "cannot be reached" in health.problems()["redis"]

    own_redis.start()
    heartbeat.beat()
    assert health.problems() == {}


def test_signs_of_life_go_on_by_themselves_and_end_with_a_goodbye(
    heartbeat: Heartbeat, own_redis: RedisServer
) -> None:
    with own_redis.client() as client:
        heartbeat.start()
        wait_until(lambda: read_workers(client))
        (found,) = read_workers(client)
        assert (found.facts.name, found.is_lost) == ("w@test", False)
        wait_until(lambda: heartbeat.workers)

        heartbeat.close()

        assert read_workers(client) == []


def test_hundreds_of_workers_are_looked_at_less_often_than_each_gives_a_sign(
    heartbeat: Heartbeat, own_redis: RedisServer
) -> None:
    with own_redis.client() as client:
        scripts = Scripts(client)
        for n in range(300):
            beat(scripts, WorkerFacts(name=f"w{n}"))
        heartbeat.beat()
        assert len(heartbeat.workers) == 301
        beat(scripts, WorkerFacts(name="new"))

        heartbeat.beat()

        assert len(heartbeat.workers) == 301
        assert len(read_workers(client)) == 302
