"""A worker that dies in the middle of maintenance."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from deltaq.client import Client, State
from deltaq.worker import embedded
from tests.support.waiting import wait_until

#: Partitions of two columns are compacted one by one, in several slices.
PARTITIONS, FILES = 150, 6


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_another_worker_goes_on_where_one_was_killed_between_or_in_slices(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    numbers = list(range(PARTITIONS))
    for n in range(FILES):
        rows = pa.table({"a": [k % 10 for k in numbers], "b": numbers, "k": [n] * PARTITIONS})
        write_deltalake(lake / "t", rows, mode="append", partition_by=["a", "b"])
    with embedded(lake, workers=2, spark="off", policy_compact_files=0, lease_ttl=1.0) as system:
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
            table = DeltaTable(lake / "t")
            assert len(table.file_uris()) <= PARTITIONS + 1
            kept = table.to_pyarrow_table(columns=["k"])["k"].to_pylist()
            assert sorted(kept) == sorted([n for n in range(FILES) for _ in numbers] + [99])
            client.vacuum("t", retention_hours=0, force=True).result(60)
    assert len(list((lake / "t").rglob("a=*/**/*.parquet"))) == len(table.file_uris())


def _done(client: Client) -> int:
    return max((t.slices.done for t in client.status() if t.slices and t.holder), default=0)
