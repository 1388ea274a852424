"""Workers that start twice, stop in the middle, or find no Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deltaq.tasks import keys
from deltaq.tasks.connection import connect
from deltaq.tasks.workers import read_workers
from deltaq.worker import System, embedded
from deltaq.worker.stopping import STOPPED_AT_ONCE
from tests.support.faulty import Deed, table_name
from tests.support.log import committed_requests
from tests.support.redis import RedisServer
from tests.support.steps import Step
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


class BusyWorker:
    """A worker that is in the middle of a commit and would stay there for ever."""

    def __init__(self, system: System, step: Step, folder: Path) -> None:
        self.system = system
        self._table = table_name(step, "append")
        self._client = system.client()
        self._futures = [self._client.append(self._table, pa.table({"n": [n]})) for n in range(5)]
        system.start_worker(module="tests.support.faulty_worker")
        (self.process,) = system.workers
        wait_until((folder / "here").exists, within=60, saying=system.log.read_text)
        # The worker's main loop is slower to be ready than its threads are to take a lease.
        wait_until(lambda: " serves " in system.log.read_text(), within=60)

    def send(self, number: int) -> None:
        self.process.send_signal(number)
        # Two signals that wait for the main thread at once are one.
        wait_until(lambda: "Warm shutdown" in self.system.log.read_text())

    def check_that_the_next_worker_commits_each_request_once(self, *, crashes: int = 0) -> None:
        with self.system.redis.connect() as redis:
            if not crashes:
                assert not redis.exists(keys.lease(self._table))
            self.system.start_worker()
            outcomes = [f.result(60) for f in self._futures]
            assert [o.sequence for o in outcomes] == [1, 2, 3, 4, 5]
            self._client.append(self._table, pa.table({"n": [5]})).result(60)
            assert redis.hget(keys.seq(self._table), "crashed:live") is None
        self._client.close()
        committed = committed_requests(self.system.settings.lake / self._table)
        assert [r[1] for r in committed] == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def busy_worker(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., BusyWorker]]:
    """Start a worker that stays at a step; the settings are more of ``embedded``."""
    with ExitStack() as stack:

        def start(step: Step, **settings: Any) -> BusyWorker:
            monkeypatch.setenv("FAULT", Deed.WAIT)
            monkeypatch.setenv("FAULT_FOLDER", str(tmp_path))
            monkeypatch.setenv("FAULT_TABLES", table_name(step, "append"))
            system = stack.enter_context(embedded(lake, workers=0, spark="off", **settings))
            return BusyWorker(system, step, tmp_path)

        yield start


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
    assert len(committed_requests(lake / "t", maintenance=False)) == 300


@pytest.mark.parametrize(
    ("step", "signals"),
    [
        (Step.CLAIMED, (signal.SIGTERM, signal.SIGTERM)),
        (Step.BEFORE_COMMIT, (signal.SIGTERM, signal.SIGINT)),
        (Step.COMMITTED, (signal.SIGINT, signal.SIGTERM)),
        (Step.ACKNOWLEDGED, (signal.SIGTERM, signal.SIGTERM)),
    ],
)
def test_a_second_signal_stops_at_once_and_the_next_worker_commits_each_request_once(
    busy_worker: Callable[..., BusyWorker], step: Step, signals: tuple[int, int]
) -> None:
    busy = busy_worker(step)

    for number in signals:
        busy.send(number)

    assert busy.process.wait(10) == STOPPED_AT_ONCE
    assert "stopping at once" in busy.system.log.read_text()
    busy.check_that_the_next_worker_commits_each_request_once()


def test_a_worker_that_does_not_get_done_in_time_stops_at_once(
    busy_worker: Callable[..., BusyWorker],
) -> None:
    busy = busy_worker(Step.BEFORE_COMMIT, stop_timeout=0.3)

    busy.send(signal.SIGTERM)

    assert busy.process.wait(10) == STOPPED_AT_ONCE
    assert "not stopped within 0.3 s" in busy.system.log.read_text()
    with connect(busy.system.settings) as redis:
        assert read_workers(redis) == []  # it said goodbye, and is not missed
    busy.check_that_the_next_worker_commits_each_request_once()


def test_a_second_signal_ends_the_process_even_though_redis_hangs(
    busy_worker: Callable[..., BusyWorker],
) -> None:
    busy = busy_worker(Step.CLAIMED)
    redis_pid = busy.system.redis._process.pid  # type: ignore[union-attr]
    os.kill(redis_pid, signal.SIGSTOP)
    try:
        busy.send(signal.SIGTERM)
        busy.send(signal.SIGTERM)

        assert busy.process.wait(10) == STOPPED_AT_ONCE
    finally:
        os.kill(redis_pid, signal.SIGCONT)
    busy.check_that_the_next_worker_commits_each_request_once(crashes=1)


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


def test_a_worker_whose_lake_is_a_file_does_not_start(lake: Path) -> None:
    lake.write_text("")
    env = {**os.environ, "DELTAQ_LAKE": str(lake / "tables"), "DELTAQ_SPARK": "off"}

    done = _start_in_vain(env)

    assert done.returncode == 2
    assert f"{lake} is a file; name a folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_dev_ends_all_its_processes_on_ctrl_c(lake: Path) -> None:
    dev = subprocess.Popen(
        [sys.executable, "-m", "deltaq.worker", "dev", "--lake", str(lake)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert dev.stdout is not None
    said: set[str] = set()
    while not {"export DELTAQ_REDIS_URL", "export DELTAQ_LAKE"} <= said:
        line = dev.stdout.readline()
        assert line, said
        said.add(line.partition("=")[0])
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
