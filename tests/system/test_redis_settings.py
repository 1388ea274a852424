"""A worker that starts on a Redis that may lose requests warns of it, once, and works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from deltaq.client import Client
from tests.support.programs import environment
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until


@pytest.mark.timeout(120)
def test_a_worker_warns_once_of_a_redis_without_a_log_and_serves(lake: Path) -> None:
    log = lake.parent / "log"
    with RedisServer() as server, log.open("wb") as output:
        env = environment(
            DELTAQ_LAKE=str(lake),
            DELTAQ_REDIS_URL=server.url,
            DELTAQ_SPARK="off",
            DELTAQ_LOG_FORMAT="human",
        )
        command = [sys.executable, "-m", "deltaq.worker", "worker"]
        with subprocess.Popen(command, env=env, stdout=output, stderr=output) as worker:
            wait_until(lambda: "serves" in log.read_text(), within=60, saying=log.read_text)
            with Client(lake=lake, redis_url=server.url) as client:
                client.append("t", pa.table({"n": [1]})).result(30)
            worker.terminate()
            assert worker.wait(60) == 0

    warnings = [line for line in log.read_text().splitlines() if " WARNING " in line]
    assert len(warnings) == 1, warnings
    assert "Redis may lose accepted requests: appendonly is no" in warnings[0]
