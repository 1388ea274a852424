"""A worker that dies in the middle of maintenance."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from deltaq.client import Client, State
from deltaq.tasks import keys
from deltaq.tasks.location import Location
from deltaq.tasks.settings import Settings, load_settings
from deltaq.worker.engines.urls import open_table
from tests.fault.maintenance_program import FILES as FILES_AT_ONCE
from tests.fault.maintenance_program import Moment, little_at_a_time
from tests.support.bench import Bench
from tests.support.log import committed_requests
from tests.support.places import files_in, system_at, variables_of
from tests.support.programs import environment
from tests.support.waiting import wait_until

#: Partitions of two columns are compacted one by one, in several slices.
PARTITIONS, FILES = 150, 6


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_another_worker_goes_on_where_one_was_killed_between_or_in_slices(place: Location) -> None:
    path = place / "lake" / "t"
    numbers = list(range(PARTITIONS))
    for n in range(FILES):
        rows = pa.table({"a": [k % 10 for k in numbers], "b": numbers, "k": [n] * PARTITIONS})
        write_deltalake(str(path), rows, mode="append", partition_by=["a", "b"])
    given = {"policy_compact_files": 0, "lease_ttl": 1.0}
    with system_at(place, workers=2, spark="off", **given) as system:
        system.wait_ready()
        with Client(system.settings) as client:
            optimized = client.optimize("t")
            wait_until(lambda: _done(client) > 0, within=60)
            (status,) = client.status()
            pid = int(str(status.holder).split("@")[0].removeprefix("deltaq-"))
            os.kill(pid, signal.SIGKILL)
            live = client.append("t", pa.table({"a": [0], "b": [0], "k": [99]}))

            assert live.result(60).state is State.COMMITTED
            assert optimized.result(120).state is State.COMMITTED
            table = open_table(path)
            assert len(table.file_uris()) <= PARTITIONS + 1
            kept = table.to_pyarrow_table(columns=["k"])["k"].to_pylist()
            assert sorted(kept) == sorted([n for n in range(FILES) for _ in numbers] + [99])
            client.vacuum("t", retention_hours=0, force=True).result(60)
    assert len(data_files(path)) == len(table.file_uris())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("moment", Moment)
def test_maintenance_that_is_killed_at_any_moment_loses_no_row_and_leaves_no_file(
    settings: Settings, place: Location, monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    table, files = settings.lake / "t", 2 * FILES_AT_ONCE + 1
    for n in range(files):
        # In bins the files of null, which delta-rs cannot name; as a whole those of the others.
        days = [None, "a", "b"] if n < FILES_AT_ONCE else [None]
        rows = pa.table({"day": pa.array(days, pa.string()), "k": [n] * len(days)})
        write_deltalake(str(table), rows, mode="append", partition_by=["day"])
    before = sorted(open_table(table).to_pyarrow_table()["k"].to_pylist())
    little_at_a_time(monkeypatch.setattr)
    given = settings.model_dump(exclude_unset=True)
    bench = Bench(load_settings(**given, maintenance_share=1))
    with Client(settings) as client:
        asked = [client.optimize("t"), client.vacuum("t", retention_hours=0, force=True)]
        program = [sys.executable, "-m", "tests.fault.maintenance_program", moment]
        where = [str(settings.lake), str(settings.redis_url.get_secret_value())]
        env = environment(**variables_of(place))
        died = subprocess.run([*program, *where], env=env, check=False, timeout=60)
        assert died.returncode == -signal.SIGKILL
        bench.redis.delete(keys.lease("t"))  # instead of waiting until nobody renews it
        assert sorted(open_table(table).to_pyarrow_table()["k"].to_pylist()) == before

        def ended() -> bool:
            bench.committer.drain("t")
            return all(future.done() for future in asked)

        wait_until(ended, within=30)
        assert [future.result(0).state for future in asked] == [State.COMMITTED] * 2
    bench.close()
    assert sorted(open_table(table).to_pyarrow_table()["k"].to_pylist()) == before
    assert len(open_table(table).file_uris()) == 3
    assert len(data_files(table)) == 3  # what was begun and not committed is gone, too
    told = [request_id for _, _, request_id in committed_requests(table)]
    assert told == [future.request_id for future in asked]


def data_files(table: Location) -> list[Location]:
    """List what is in the folders of partitions, in a version of the table or not."""
    return [file for file in files_in(table) if "_delta_log" not in str(file)]


def _done(client: Client) -> int:
    return max((t.slices.done for t in client.status() if t.slices and t.holder), default=0)
