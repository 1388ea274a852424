"""Requests that kill whoever applies them, among others that do not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from deltaq.client import DeadLettered
from deltaq.worker import System, embedded
from tests.support.log import committed_requests
from tests.support.paths import as_path
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def deaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POISON", "poison-1,poison-2,jvm-poison")
    monkeypatch.setenv("DEATHS", str(tmp_path / "deaths"))
    return tmp_path / "deaths"


def test_a_request_that_kills_three_workers_is_given_up_and_its_neighbours_are_not(
    tmp_path: Path, deaths: Path
) -> None:
    with embedded(tmp_path / "lake", workers=0, spark="off", lease_ttl=0.5) as system:
        client = system.client()
        ids = ["a", "b", "poison-1", "c", "poison-2", "d"]
        futures = {i: client.append("t", pa.table({"id": [i]}), request_id=i) for i in ids}

        _let_workers_die(system, until=lambda: all(f.done() for f in futures.values()))

        for poison in ("poison-1", "poison-2"):
            with pytest.raises(DeadLettered, match="3 crashes"):
                futures[poison].result(0)
            assert (
                as_path(system.settings.staging_root)
                .joinpath("dead", "t", f"{poison}.parquet")
                .exists()
            )
        assert [futures[i].result(0).sequence for i in "abcd"] == [1, 2, 4, 6]
        later = client.append("t", pa.table({"id": ["e"]}), request_id="e").result(60)
        assert later.attempt == 1
        client.close()
    assert [r[2] for r in committed_requests(tmp_path / "lake" / "t")] == [*"abcde"]
    assert deaths.read_text().splitlines() == [
        *("1 2 3 4 5 6", "1 2 3 4 5 6", "3"),
        *("4 5 6", "4 5 6", "5"),
    ]


def test_workers_killed_again_and_again_while_they_apply_cost_no_other_request(
    tmp_path: Path, deaths: Path
) -> None:
    """Two deaths of a whole group and one more of nobody's making give up nobody."""
    with embedded(tmp_path / "lake", workers=0, spark="off", lease_ttl=0.5) as system:
        client = system.client()
        futures = [
            client.append("t", pa.table({"id": [i]}), request_id=i) for i in ("a", "poison-1", "b")
        ]
        _let_workers_die(system, until=lambda: len(_lines(deaths)) == 2)
        os.environ["POISON"] = "nobody"
        system.start_worker(module="tests.support.poisoned_worker")

        outcomes = [f.result(60) for f in futures]

        assert [o.attempt for o in outcomes] == [3, 3, 3]
        assert [o.group_size for o in outcomes] == [1, 1, 1]
        client.close()
    assert len(committed_requests(tmp_path / "lake" / "t")) == 3


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_request_that_kills_three_jvms_of_one_worker_is_given_up(
    tmp_path: Path, deaths: Path
) -> None:
    with embedded(tmp_path / "lake", workers=0, engine="spark", spark_master="local[2]") as system:
        client = system.client()
        ids = ["a", "jvm-poison", "b"]
        futures = {i: client.append("t", pa.table({"id": [i]}), request_id=i) for i in ids}
        system.start_worker(module="tests.support.poisoned_worker")

        wait_until(
            lambda: all(f.done() for f in futures.values()),
            within=300,
            saying=lambda: system.log.read_text()[-3000:],
        )

        with pytest.raises(DeadLettered, match="the last time: Spark's JVM"):
            futures["jvm-poison"].result(0)
        assert [futures[i].result(0).attempt for i in "ab"] == [3, 3]
        assert len(system.worker_pids) == 1
        client.close()
    assert [r[2] for r in committed_requests(tmp_path / "lake" / "t")] == ["a", "b"]
    assert _lines(deaths) == ["1 2 3", "1 2 3", "2"]


def _let_workers_die(system: System, *, until: Callable[[], bool]) -> None:
    """Start a worker whenever there is none, as a supervisor does."""

    def supervise() -> bool:
        if not system.worker_pids and not until():
            system.start_worker(module="tests.support.poisoned_worker")
        return until()

    wait_until(supervise, within=120, saying=lambda: system.log.read_text()[-3000:])
    assert {w.poll() for w in system.workers} <= {None, -signal.SIGKILL}


def _lines(deaths: Path) -> list[str]:
    return deaths.read_text().splitlines() if deaths.exists() else []
