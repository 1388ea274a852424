"""Workers that start twice, stop in the middle, or find no Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from deltaq.worker import embedded
from tests.support.log import committed_requests
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


def test_sigterm_in_the_middle_hands_the_rest_back_and_exits_zero(lake: Path) -> None:
    with embedded(lake, workers=1, spark="off", group_max_requests=2) as system:
        client = system.client()
        system.wait_ready()
        futures = [client.append("t", pa.table({"n": [n]})) for n in range(300)]
        wait_until(lambda: sum(f.done() for f in futures) > 10, within=60)

        (worker,) = system.workers
        worker.send_signal(signal.SIGTERM)

        assert worker.wait(60) == 0
        left = sum(not f.done() for f in futures)
        system.start_worker()
        outcomes = [f.result(60) for f in futures]
        assert [o.sequence for o in outcomes] == list(range(1, 301))
        assert left, "it stopped only after everything was done: this proves nothing"
        client.close()
    assert len(committed_requests(lake / "t")) == 300


def test_a_worker_started_while_redis_is_down_waits_for_it(lake: Path) -> None:
    with RedisServer() as server:
        server.kill()
        env = {
            **os.environ,
            "DELTAQ_LAKE": str(lake),
            "DELTAQ_REDIS_URL": server.url,
            "DELTAQ_SPARK": "off",
        }
        log = lake.parent / "log"
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [sys.executable, "-m", "deltaq.worker", "worker"],
                env=env,
                stdout=output,
                stderr=output,
            )
        wait_until(lambda: b"rying" in log.read_bytes(), within=60, saying=log.read_text)
        assert worker.poll() is None

        server.start()

        wait_until(lambda: b"serves" in log.read_bytes(), within=60, saying=log.read_text)
        worker.terminate()
        assert worker.wait(60) == 0
        assert "Traceback" not in log.read_text()


def test_a_worker_without_java_says_what_to_install(lake: Path, tmp_path: Path) -> None:
    env = {**os.environ, "DELTAQ_LAKE": str(lake), "PATH": str(tmp_path)}
    env.pop("JAVA_HOME", None)

    done = _start_in_vain(env)

    assert done.returncode == 2
    assert "Java 17" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_with_a_wrong_setting_names_it(lake: Path) -> None:
    env = {**os.environ, "DELTAQ_LAKE": str(lake), "DELTAQ_LEASE_TLL": "3"}

    done = _start_in_vain(env)

    assert done.returncode == 2
    assert "DELTAQ_LEASE_TLL" in done.stderr


def test_dev_ends_all_its_processes_on_ctrl_c(lake: Path) -> None:
    dev = subprocess.Popen(
        [sys.executable, "-m", "deltaq.worker", "dev", "--lake", str(lake)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert dev.stdout is not None
    said = [dev.stdout.readline() for _ in range(2)]
    assert any(line.startswith("export DELTAQ_REDIS_URL=") for line in said)
    assert any(line.startswith("export DELTAQ_LAKE=") for line in said)
    family = _descendants(dev.pid)
    assert len(family) >= 2

    dev.send_signal(signal.SIGINT)
    _, errors = dev.communicate(timeout=90)

    assert dev.returncode == 0, errors
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), within=30)


def _start_in_vain(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deltaq.worker", "worker"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *_descendants(int(child))]
    return found
