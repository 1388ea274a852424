"""The life of the warm Spark: it starts, dies, comes back and goes without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

import deltaq.worker.warm
from deltaq.tasks.errors import ConfigurationError, EngineUnavailable
from deltaq.tasks.settings import Settings, load_settings
from deltaq.worker.health import Health
from deltaq.worker.warm import WarmSpark, WarmState
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

STOP_WHILE_STARTING = """
import sys, time
from deltaq.tasks.settings import load_settings
from deltaq.worker.warm import WarmSpark

warm = WarmSpark(load_settings(lake=sys.argv[1]))
warm.start()
while warm.jvm_pid is None:
    time.sleep(0.01)
pid, began = warm.jvm_pid, time.monotonic()
warm.stop()
print(pid, time.monotonic() - began, warm.state)
"""


def test_a_warm_spark_is_ready_and_has_its_settings(
    warm_spark: WarmSpark, spark_settings: Settings
) -> None:
    session = warm_spark.session(timeout=240)

    assert warm_spark.state is WarmState.READY
    assert session.conf.get("spark.sql.session.timeZone") == "UTC"
    assert (
        session.conf.get("spark.databricks.delta.properties.defaults.checkpointInterval") == "100"
    )
    assert session.sparkContext.master == spark_settings.spark_master


def test_spark_leaves_nothing_in_the_working_directory(warm_spark: WarmSpark) -> None:
    warm_spark.session(timeout=240)

    litter = ("spark-warehouse", "metastore_db", "derby.log", "artifacts")
    assert [name for name in litter if Path(name).exists()] == []


def test_a_killed_jvm_is_noticed_told_and_replaced(
    warm_spark: WarmSpark, spark_settings: Settings
) -> None:
    warm_spark.session(timeout=240)
    killed = warm_spark.jvm_pid
    assert killed is not None
    health = Health(spark_settings, name="w@test", warm=warm_spark, stopping=threading.Event())
    health.serving.set()
    facts = health.facts()
    assert (facts.problems, facts.spark) == ({}, "ready")
    assert facts.jvm_memory_bytes > 50_000_000

    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: warm_spark.state is WarmState.FAILED, within=5)
    assert "JVM died: exit code -9" in health.problems()["spark"]
    with pytest.raises(EngineUnavailable, match=r"JVM died: exit code -9.*another one is being"):
        warm_spark.session(timeout=60)

    assert warm_spark.session(timeout=240).range(3).count() == 3
    assert warm_spark.jvm_pid != killed
    assert "spark" not in health.problems()


def test_a_start_that_failed_is_tried_again_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr(deltaq.worker.warm, "_TRY_AGAIN", 0.01)
    moves: list[WarmState] = []
    warm = WarmSpark(load_settings(lake=tmp_path))
    move = warm._move

    def noted(state: WarmState) -> None:
        moves.append(state)
        move(state)

    monkeypatch.setattr(warm, "_move", noted)
    warm.start()
    wait_until(lambda: moves.count(WarmState.FAILED) > 2)
    warm.stop()

    assert len(caplog.records) == 1
    assert warm.state is WarmState.STOPPED


def test_a_wait_for_spark_ends_in_time(warm_spark: WarmSpark, tmp_path: Path) -> None:
    idle = WarmSpark(load_settings(lake=tmp_path))

    with pytest.raises(EngineUnavailable, match="Spark is stopped"):
        idle.session(timeout=0.1)


def test_a_missing_java_is_the_reason_of_a_failed_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    warm = WarmSpark(load_settings(lake=tmp_path))

    warm.start()
    wait_until(lambda: warm.state is not WarmState.STARTING, within=10)

    assert warm.state is WarmState.FAILED
    assert isinstance(warm.error, ConfigurationError)
    with pytest.raises(EngineUnavailable, match="JAVA_HOME"):
        warm.session(timeout=1)
    warm.stop()


def test_a_starting_spark_stops_at_once_and_leaves_no_process(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", STOP_WHILE_STARTING, str(tmp_path / "lake")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    pid, seconds, state = result.stdout.split()
    assert state == "stopped"
    assert float(seconds) < 6
    assert not psutil.pid_exists(int(pid))
    assert list(tmp_path.glob("deltaq-spark-*")) == []
