"""What the doctor finds, on real folders and a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from deltaq.client import Client
from deltaq.tasks import keys
from deltaq.tasks.connection import Scripts
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.workers import WorkerFacts, beat
from deltaq.worker.doctor import Finding, Level, examine
from deltaq.worker.doctor import machine as machine_checks
from deltaq.worker.doctor import service as service_checks
from deltaq.worker.doctor.machine import check_machine
from deltaq.worker.doctor.service import check_service
from deltaq.worker.doctor.storage import check_storage
from tests.support.paths import as_path
from tests.support.player import Player
from tests.support.redis import RedisServer
from tests.support.shell import Forks, Shell


@pytest.fixture
def mended(own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a lake that is there and a Redis that is set as it should be."""
    monkeypatch.setattr(service_checks, "_ANSWER_WITHIN", 0.2)
    with own_redis.client() as client:
        client.config_set("appendfsync", "always")
    (tmp_path / "lake").mkdir()
    return load_settings(lake=tmp_path / "lake", redis_url=own_redis.url, spark="off")


def bad(findings: Iterator[Finding]) -> list[tuple[str, Level]]:
    """List what is not as it should be; all of it comes with advice."""
    found = [f for f in findings if f.level is not Level.OK]
    assert all(f.advice for f in found)
    return [(f.check, f.level) for f in found]


def test_of_a_system_without_workers_only_they_are_missed(mended: Settings) -> None:
    found = list(examine(mended))

    assert bad(iter(found)) == [("workers", Level.ERROR)]
    assert [f.check for f in found] == [
        *("python", "worker", "java", "lake", "room"),
        *("redis", "durable", "clock", "broker", "workers", "queue"),
    ]
    assert list(mended.lake.iterdir()) == []


def test_workers_that_went_silent_or_are_not_ready_are_named(
    mended: Settings, own_redis: RedisServer
) -> None:
    with own_redis.client() as client:
        for name, problems in (("w1", {}), ("w2", {"lake": "no space left"})):
            beat(Scripts(client), WorkerFacts(name=name, problems=problems))
        client.zincrby(keys.WORKERS, -20_000, "w1")  # 20 s ago

    found = list(check_service(mended))

    assert bad(iter(found)) == [("workers", Level.ERROR), *2 * [("workers", Level.WARNING)]]
    told = [f.message for f in found if f.check == "workers"][1:]
    assert told[0].startswith("w1 has given no sign of life for 20 s")
    assert told[1] == "w2: no space left"


def test_a_redis_that_may_lose_or_refuse_requests_is_warned_of(
    mended: Settings, own_redis: RedisServer
) -> None:
    with own_redis.client() as client:
        client.config_set("appendfsync", "everysec")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", client.info("memory")["used_memory"])

    found = bad(check_service(mended))

    assert found[:3] == [
        ("redis", Level.WARNING),
        ("durable", Level.WARNING),
        ("durable", Level.WARNING),
    ]


def test_a_redis_that_is_down_is_an_error_and_no_secret_is_told(mended: Settings) -> None:
    url = "redis://user:hidden@localhost:1/0"

    (finding,) = check_service(load_settings(lake=mended.lake, redis_url=url, redis_timeout=1))

    assert (finding.check, finding.level) == ("redis", Level.ERROR)
    assert "redis://user:***@localhost:1/0: " in finding.message
    assert "hidden" not in finding.message


def test_a_broker_of_its_own_that_is_down_is_an_error(mended: Settings) -> None:
    settings = mended.model_copy(update={"broker_url": load_settings(
        lake="x", broker_url="redis://localhost:1/0").broker_url, "redis_timeout": 1.0})  # fmt: skip

    assert ("broker", Level.ERROR) in bad(check_service(settings))


def test_folders_that_do_not_do_are_told(mended: Settings, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    def of(**settings: object) -> list[tuple[str, Level]]:
        return bad(check_storage(load_settings(**{"lake": mended.lake, **settings})))

    assert of() == []
    assert of(lake=tmp_path / "none") == [("lake", Level.WARNING)]
    assert of(lake=file) == [("lake", Level.ERROR)]
    assert of(staging=file) == [("staging", Level.ERROR)]
    assert of(staging="/proc")[0] == ("staging", Level.ERROR)
    assert of(staging_min_free_bytes=1 << 60) == [("room", Level.ERROR)]


def test_java_and_jars_are_looked_at_when_spark_is_on(
    mended: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(lake=mended.lake, jars=tmp_path / "no-jars")
    assert bad(check_machine(settings)) == [("jars", Level.WARNING)]

    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert bad(check_machine(settings)) == [("java", Level.ERROR)]


def test_a_cluster_that_does_not_answer_is_told(mended: Settings) -> None:
    settings = load_settings(lake=mended.lake, spark_master="spark://127.0.0.1:1")
    assert ("cluster", Level.ERROR) in bad(check_machine(settings))


def test_a_machine_for_clients_needs_no_java(
    mended: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks, "_NATIVE", (("no_such_module", "deltalake"),))
    monkeypatch.setattr(machine_checks, "_SPARK", (("no_such_module", "pyspark"),))
    assert bad(check_machine(mended)) == []

    monkeypatch.setattr(machine_checks, "_NATIVE", (("pyarrow", "pyarrow"),))
    assert bad(check_machine(load_settings(lake=mended.lake))) == [("worker", Level.ERROR)]


def test_what_waits_fails_or_was_given_up_is_told(mended: Settings) -> None:
    player = Player(mended)
    with Client(mended) as client:
        client.append("prices", pa.table({"n": [1]}))
        player.lease("prices")
        player.inbox.note_retry("prices", "disk full", first=30.0, longest=60.0, token="player")
    grave = as_path(mended.staging_root) / "dead" / "prices" / "a.json"
    grave.parent.mkdir(parents=True)
    grave.touch()

    said = [f.message for f in check_service(mended) if f.check == "queue"]

    player.close()
    assert said[0].startswith("1 request waits in 1 table, the oldest for ")
    assert said[1].endswith(" s: disk full")
    assert said[2] == "1 dead letter"


def test_the_verb_exits_with_one_when_there_is_an_error(
    mended: Settings, tmp_path: Path, forks: Forks
) -> None:
    shell = Shell(mended, tmp_path, forks)
    shell.env["DELTAQ_SPARK"] = "off"

    code, out, _ = shell.run("doctor", "--json")

    findings = [json.loads(line) for line in out.splitlines()]
    assert (code, [f["check"] for f in findings if f["level"] == "error"]) == (1, ["workers"])
    assert "error    workers  none answers" in shell.run("doctor")[1].decode()
