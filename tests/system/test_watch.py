"""Followers of commits, while workers and Redis come and go."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from deltaq.client import Commit, State, Watch
from deltaq.worker import System, embedded
from tests.support.log import committed_requests
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

ROWS = pa.table({"n": [1]})
TABLES = ("prices", "trades")


class Follower:
    """A thread that notes the commits it is told of."""

    def __init__(self, watch: Watch) -> None:
        self.told: list[Commit] = []
        self._watch = watch
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for commit in self._watch:
            self.told.append(commit)

    def requests(self, table: str) -> list[str]:
        return [r for c in self.told if c.table == table for r in c.request_ids]

    def end(self) -> None:
        self._watch.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


def restart_redis(system: System) -> None:
    server = system.redis._process
    assert server is not None
    server.kill()
    server.wait()
    system.redis.start()


def committed(system: System, table: str) -> list[str]:
    return [request_id for *_, request_id in committed_requests(system.settings.lake / table)]


def test_a_watch_tells_each_commit_once_through_a_killed_worker_and_a_restarted_redis(
    lake: Path,
) -> None:
    with (
        embedded(lake, workers=0, spark="off", lease_ttl=1.0, group_max_requests=3) as system,
        system.client(spool=True) as writer,
        system.client() as reader,
    ):
        follower = Follower(reader.watch(TABLES, from_version=0, poll=1.0))  # no table, no worker
        system.start_worker()
        futures = [writer.append(TABLES[n % 2], ROWS) for n in range(100)]
        wait_until(lambda: len(follower.told) > 5, within=60)

        system.workers[0].kill()
        system.workers[0].wait()
        system.start_worker()
        futures += [writer.append(TABLES[n % 2], ROWS) for n in range(100)]
        seen = len(follower.told)
        wait_until(lambda: len(follower.told) > seen + 5, within=60)

        restart_redis(system)
        futures += [writer.append(TABLES[n % 2], ROWS) for n in range(40)]
        left = sum(not f.done() for f in futures)
        assert all(f.result(90).state is State.COMMITTED for f in futures)
        write_deltalake(str(lake / "prices"), ROWS, mode="append")  # by somebody else
        newest = max(f.result().version or 0 for f in futures if f.table == "prices") + 1
        wait_until(lambda: any(c.version == newest for c in follower.told), within=60)
        everything = {table: committed(system, table) for table in TABLES}
        wait_until(lambda: all(follower.requests(t) == everything[t] for t in TABLES), within=60)
        follower.end()

        assert left, "everything was done before Redis was killed: this proves nothing"
        for table in TABLES:
            versions = [c.version for c in follower.told if c.table == table]
            assert versions == list(range(len(versions)))
        assert sum(len(c.request_ids) for c in follower.told) == len(futures)


def test_word_of_a_commit_comes_at_once(lake: Path) -> None:
    with embedded(lake, spark="off") as system, system.client() as client:
        client.append("prices", ROWS).result(60)
        with client.watch("prices", poll=1000.0) as watch:
            outcome = client.append("prices", ROWS).result(60)
            told = watch.next(timeout=30)

    assert (told.version, told.rows, told.operation) == (outcome.version, 1, "append")
    assert told.request_ids == (outcome.request_id,)
