"""Redis loses everything under a running system, and what an operator sees of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from deltaq.client import State
from deltaq.tasks.request import new_request_id
from deltaq.worker import System, embedded
from tests.support.log import committed_requests
from tests.support.paths import as_path
from tests.support.programs import environment
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

ROWS = pa.table({"n": [1]})


def lose_redis(system: System) -> None:
    """Kill Redis, delete its data and start it empty."""
    server = system.redis._process
    assert server is not None
    server.kill()
    server.wait()
    shutil.rmtree(as_path(system.settings.staging_root) / "redis")
    system.redis.start()


def recover(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deltaq.client.cli", "recover", *arguments],
        env=environment(**system.env),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def committed(system: System, table: str) -> list[str]:
    return [request_id for *_, request_id in committed_requests(system.settings.lake / table)]


def test_a_redis_that_lost_its_disk_costs_no_request_and_no_command(lake: Path) -> None:
    with (
        embedded(lake, workers=0, spark="off", lease_ttl=2.0, group_max_requests=5) as system,
        system.client() as client,
    ):
        system.start_worker()
        futures = {
            table: [client.append(table, ROWS) for _ in range(100)] for table in ("a", "b", "idle")
        }
        wait_until(lambda: sum(f.done() for f in futures["a"]) > 10, within=60)

        lose_redis(system)
        left = sum(not f.done() for each in futures.values() for f in each)
        for table in ("a", "b"):  # nobody asks for the third any more
            futures[table] += [client.append(table, ROWS) for _ in range(20)]

        for table, each in futures.items():
            assert all(f.result(90).state is State.COMMITTED for f in each)
            assert committed(system, table) == [f.request_id for f in each]
        wait_until(lambda: not list((lake / ".deltaq/requests").glob("*/*")), within=30)
        assert left, "everything was done before Redis was lost: this proves nothing"


def test_recover_shows_what_it_would_do_and_does_it_when_told(lake: Path) -> None:
    with embedded(lake, workers=0, spark="off", lease_ttl=1.0) as system:
        requests = lake / ".deltaq" / "requests" / "t"
        with system.client() as client:
            done = client.append("t", ROWS)
            content = (requests / f"{done.request_id}.parquet").read_bytes()
            system.start_worker()
            done.result(60)
            system.workers[0].terminate()
            assert system.workers[0].wait(60) == 0
            waiting = [client.append("t", ROWS) for _ in range(2)]
        lose_redis(system)
        (requests / f"{done.request_id}.parquet").write_bytes(content)
        torn = requests / f"{new_request_id()}.parquet"
        torn.write_bytes(b"PAR1")
        before = sorted(requests.iterdir())

        shown = recover(system)
        as_json = recover(system, "t", "--json")

        actions = {f.request_id: "submit" for f in waiting}
        actions |= {done.request_id: "acknowledge", torn.stem: "keep"}
        rows = [json.loads(line) for line in as_json.stdout.splitlines()]
        assert {row["request_id"]: row["action"] for row in rows} == actions
        assert [row["request_id"] for row in rows] == sorted(actions)
        assert shown.returncode == 1, shown.stderr
        assert "committed in version 0" in shown.stdout
        assert "not a whole Parquet file" in shown.stdout
        assert "2 to submit" in shown.stderr
        assert "--apply" in shown.stderr
        assert sorted(requests.iterdir()) == before
        with system.redis.connect() as redis:
            assert redis.keys("*inbox*") == []

        applied = recover(system, "--apply")

        assert "2 submitted" in applied.stderr
        assert sorted(requests.iterdir()) == sorted(
            [torn, *(requests / f"{f.request_id}.parquet" for f in waiting)]
        )
        again = recover(system, "--apply", "--plain")
        assert again.stdout.count("Redis knows it: queued") == 2
        torn.unlink()
        system.start_worker()
        expected = [done.request_id, *(f.request_id for f in waiting)]
        wait_until(lambda: committed(system, "t") == expected, within=60)
        assert recover(system).returncode == 0


def test_recover_without_redis_says_so(lake: Path) -> None:
    with embedded(lake, workers=0, spark="off", redis_timeout=0.5) as system:
        with system.client() as client:
            client.append("t", ROWS)
        server = system.redis._process
        assert server is not None
        server.kill()
        server.wait()

        told = recover(system)

        assert told.returncode == 3
        assert "Redis cannot be reached" in told.stderr
        assert "Traceback" not in told.stderr
