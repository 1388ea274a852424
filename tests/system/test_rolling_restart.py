"""Two workers are replaced one after the other while programs write: nobody notices."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from deltaq.worker import System, embedded
from tests.support.load import Load
from tests.support.log import live_requests
from tests.support.waiting import wait_until

TABLES = ["steady", "beside"]
#: The longest pause of a table, seconds: what is promised for native work.
LONGEST = 2.0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_rolling_restart_fails_no_request_and_makes_no_table_wait_for_two_seconds(
    lake: Path,
) -> None:
    with embedded(lake, workers=2, spark="off") as system, system.client() as client:
        system.wait_ready()
        with Load(client, TABLES[0], at_once=20) as steady, Load(client, TABLES[1]) as beside:
            for load in (steady, beside):
                _wait_for_more(load)
            for worker in list(system.workers):
                worker.terminate()
                system.start_worker()
                assert worker.wait(60) == 0
                system.workers.remove(worker)
                system.wait_ready()
                for load in (steady, beside):
                    _wait_for_more(load)

        for table, load in zip(TABLES, (steady, beside), strict=True):
            outcomes = [future.result(60) for future in load.futures]
            assert [o.sequence for o in outcomes] == list(range(1, len(outcomes) + 1))
            assert live_requests(lake / table) == [future.request_id for future in load.futures]
            assert _longest_pause(system, table) < LONGEST


def _wait_for_more(load: Load) -> None:
    count = len(load.futures) + 100
    wait_until(lambda: len(load.futures) > count and load.futures[count].done(), within=60)


def _longest_pause(system: System, table: str) -> float:
    entries = (system.settings.lake / table / "_delta_log").glob("*.json")
    times = sorted(e.stat().st_mtime for e in entries if e.stem.isdigit())
    return max(later - earlier for earlier, later in pairwise(times))
