"""Ten writer processes and a worker that is killed: each request once, in order."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deltaq.client import Client
from deltaq.worker import System, embedded
from tests.support.log import committed_requests, ledgers
from tests.support.sweeping import make_sweeper
from tests.support.waiting import wait_until
from tests.support.writers import frame, write, writers

OTHERS = [f"other_{n}" for n in range(5)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("engine", "appends", "merges"),
    # One MERGE of Spark takes a second: its share is smaller so that the suite stays quick.
    [("auto", 50, 20), ("spark", 6, 1)],
)
def test_ten_writers_and_two_kills_leave_each_request_once_and_in_order(
    lake: Path, engine: str, appends: int, merges: int
) -> None:
    settings: dict[str, Any] = {"engine": engine, "spark_master": "local[2]", "lease_ttl": 2.0}
    if engine == "auto":
        settings["spark"] = "off"
    with embedded(lake, workers=1, **settings) as system, writers(10) as pool:
        futures = [
            pool.submit(write, system.env, writer, "prices", OTHERS, appends, merges)
            for writer in range(10)
        ]
        for kill in range(2):
            _wait_for_versions(system, "prices", above=3 * (kill + 1))
            os.kill(system.worker_pids[0], signal.SIGKILL)
            system.start_worker()
        written = [f.result() for f in futures]

        with system.client() as client:
            _check_rows(client, written, appends, merges)
        _clean(system)
    for table in {table for ids in written for table in ids}:
        _check_log(lake / table, [ids.get(table, []) for ids in written])
    assert not list((lake / ".deltaq" / "requests").glob("*/*.parquet"))


def _clean(system: System) -> None:
    """Do what the sweeper does every few minutes, for workers killed before they could."""
    with system.redis.connect() as client:
        make_sweeper(client, system.settings).clean(older_than=0)


def _wait_for_versions(system: System, table: str, *, above: int) -> None:
    log = system.settings.lake / table / "_delta_log"
    wait_until(
        lambda: log.exists() and len(list(log.glob("*.json"))) > above,
        within=240,
        saying=lambda: system.log.read_text()[-2000:],
    )


def _check_rows(
    client: Client, written: list[dict[str, list[str]]], appends: int, merges: int
) -> None:
    prices = client.read("prices").result(120)
    keys = prices["key"].to_numpy()
    assert len(np.unique(keys)) == len(keys) == 10 * appends * 1000
    fixed = prices["price"].to_numpy() == -1.0
    assert fixed.sum() == 10 * merges * 1000
    assert (prices["number"].to_numpy()[fixed] < merges).all()
    tables = {table for ids in written for table in ids} - {"prices"}
    others = sum(client.read(table).result(120).num_rows for table in tables)
    assert others == 10 * len(range(0, appends, 5)) * 1000


def _check_log(table: Path, by_writer: list[list[str]]) -> None:
    committed = [found for found in committed_requests(table) if found[0].endswith("/live")]
    sequences = [sequence for _, sequence, _ in committed]
    assert sequences == list(range(1, len(committed) + 1))
    place = {request_id: n for n, (_, _, request_id) in enumerate(committed)}
    assert len(place) == len(committed) == sum(len(ids) for ids in by_writer)
    for ids in by_writer:
        places = [place[request_id] for request_id in ids]
        assert places == sorted(places)  # as each writer submitted them
    versions = [version for version, _, _ in ledgers(table)]
    assert versions == sorted(set(versions))


@pytest.mark.timeout(180)
def test_two_workers_share_tables_without_ever_sharing_one(lake: Path) -> None:
    with (
        embedded(lake, workers=2, spark="off", time_slice=0.2) as system,
        system.client() as client,
        writers(4) as pool,
    ):
        system.wait_ready()
        futures = [
            pool.submit(write, system.env, writer, f"table_{writer % 2}", [], 60, 20)
            for writer in range(4)
        ]
        holders: dict[str, set[str]] = {"table_0": set(), "table_1": set()}
        together = 0
        redis = system.redis.connect()
        while not all(f.done() for f in futures):
            now = [redis.hget(f"dq:{{{table}}}:lease", "holder") for table in holders]
            together += all(now)
            for table, holder in zip(holders, now, strict=True):
                if holder:
                    holders[table].add(str(holder))
            time.sleep(0.001)
        redis.close()
        written = [f.result() for f in futures]

        assert together  # tables are committed at the same time
        assert len(set().union(*holders.values())) == 2  # by both workers
        assert client.read("table_0").result(60).num_rows == 2 * 60 * 1000
    for n in range(2):
        _check_log(lake / f"table_{n}", [w.get(f"table_{n}", []) for w in written])
    assert "conflict" not in system.log.read_text().lower()


@pytest.mark.timeout(90)
def test_wake_ups_that_found_all_threads_busy_are_taken_as_soon_as_one_is_free(lake: Path) -> None:
    with (
        embedded(lake, spark="off", concurrency=1, sweep_interval=300.0) as system,
        system.client() as client,
    ):
        system.wait_ready()
        futures = [client.append(f"table_{n}", frame(0, n, 10)) for n in range(150)]

        # Left to its timers the worker would take one or two of them in a second.
        assert not wait(futures, timeout=60).not_done
