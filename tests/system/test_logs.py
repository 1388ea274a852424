"""What a worker process logs where nobody sits at a terminal: lines of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deltaq.client import Client, InvalidSignature, TableNotFound, gather
from tests.support.programs import environment
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

ROWS = pa.table({"n": [1, 2]})
SECRET = "a secret of forty characters, not to show"


@pytest.mark.timeout(120)
def test_each_commit_is_a_line_and_each_failure_names_its_request(lake: Path) -> None:
    log = lake.parent / "log"
    with RedisServer() as server, log.open("wb") as output:
        given = {"DELTAQ_LAKE": str(lake), "DELTAQ_REDIS_URL": server.url, "DELTAQ_SPARK": "off"}
        conf = json.dumps({"spark.hadoop.fs.s3a.secret.key": SECRET})
        env = environment(**given, DELTAQ_SIGNING_KEY=SECRET, DELTAQ_SPARK_CONF=conf)
        command = [sys.executable, "-m", "deltaq.worker", "worker", "--log-level", "DEBUG"]
        with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=output) as worker:
            wait_until(lambda: "serves" in log.read_text(), within=60, saying=log.read_text)
            with Client(lake=lake, redis_url=server.url, signing_key=SECRET) as client:
                futures = [client.append("t", ROWS) for _ in range(30)]
                outcomes = gather(futures, timeout=30)
                wrong = client.append("t", pa.table({"n": ["no number"]}))
                assert wrong.exception(30) is not None
                missing = client.read("nowhere")
                with pytest.raises(TableNotFound):
                    missing.result(30)
                with Client(lake=lake, redis_url=server.url) as unsigned:
                    refused = unsigned.append("t", ROWS)
                    assert refused.exception(30) is not None
                    assert isinstance(unsigned.read("t").exception(30), InvalidSignature)
                # One that waits is sent once more, by the worker.
                version = 1 + (outcomes[-1].version or 0)
                late = client.read("t", min_version=version, version_timeout=30)
                client.append("t", ROWS).result(30)
                assert late.result(30).num_rows == 62
            worker.terminate()
            assert worker.wait(60) == 0

    assert SECRET not in log.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    commits = [line for line in lines if line.get("action") == "committed"]
    *versions, last = [line["version"] for line in commits]
    assert versions == sorted({outcome.version or 0 for outcome in outcomes})
    assert last == version
    assert sum(line["requests"] for line in commits) == 31
    assert sum(line["inserted"] for line in commits) == 62
    ids = [request_id for line in commits for request_id in line["request_ids"]]
    assert set(ids[:-1]) <= {future.request_id for future in futures}
    assert all(len(line["request_ids"]) == min(line["requests"], 20) for line in commits)
    ends = accumulate(line["requests"] for line in commits[:-1])
    assert [line["last_request_id"] for line in commits[:-1]] == [
        futures[end - 1].request_id for end in ends
    ]
    assert {line["level"] for line in commits} == {"info"}
    assert told(lines, wrong.request_id) == ("warning", "t", "append", "schema_mismatch")
    assert told(lines, refused.request_id) == ("warning", "t", "append", "invalid_signature")
    assert told(lines, missing.request_id) == ("info", "nowhere", "read", "table_not_found")


def told(lines: list[dict[str, Any]], request_id: str) -> tuple[str, ...]:
    (line,) = [line for line in lines if line.get("request_id") == request_id]
    assert line["action"] == "failed"
    return line["level"], line["table"], line["operation"], line["error"]


@pytest.mark.timeout(60)
def test_a_redis_that_is_away_is_named_without_its_password(lake: Path) -> None:
    log = lake.parent / "log"
    url = "redis://worker:kept-to-ourselves@127.0.0.1:1/0"
    env = environment(DELTAQ_LAKE=str(lake), DELTAQ_REDIS_URL=url, DELTAQ_SPARK="off")
    command = [sys.executable, "-m", "deltaq.worker", "worker", "--log-format", "human"]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=env, stdout=output, stderr=output) as worker,
    ):
        wait_until(lambda: "Cannot connect" in log.read_text(), within=50, saying=log.read_text)
        words = Path(f"/proc/{worker.pid}/cmdline").read_text()
        worker.terminate()
        worker.wait(40)
    assert "kept-to-ourselves" not in log.read_text() + words
    lines = log.read_text().splitlines()
    (told,) = [line for line in lines if "Cannot connect" in line]
    assert "127.0.0.1:1" in told
    assert [line for line in lines if "consumer.consumer" in line] == [told]
