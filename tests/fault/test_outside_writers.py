"""Somebody else writes to the same table at the same time, without the queue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from deltaq.worker import embedded
from tests.support.log import committed_requests
from tests.support.paths import as_path
from tests.support.waiting import wait_until
from tests.support.writers import writers

pytestmark = pytest.mark.timeout(180)

#: Requests of each kind.
COUNT = 25
#: Seconds between two outside commits. A merge takes about as long, so about half of the merges
#: find that the table has changed; with no pause at all hardly one would ever be first.
_PACE = 0.05


def _append_until(stop: Path, table: Path) -> int:
    """Append rows with negative keys, one by one, as a job of its own; return how many."""
    number = 0
    while not stop.exists():
        rows = pa.table({"key": [-number - 1], "value": ["outside"]})
        try:
            write_deltalake(table, rows, mode="append")
        except CommitFailedError:
            continue  # as delta-rs asks its callers to: a merge was first
        number += 1
        (stop.parent / "appended").touch()
        time.sleep(_PACE)
    return number


@contextmanager
def _outside_writer(folder: Path, table: Path) -> Iterator[list[int]]:
    """Run the job for the length of a block; then the list has what it returned."""
    done: list[int] = []
    with writers(1) as pool:
        job = pool.submit(_append_until, folder / "stop", table)
        try:
            wait_until((folder / "appended").exists, within=60)
            yield done
        finally:
            (folder / "stop").touch()
            done.append(job.result(60))


def test_an_outside_delta_rs_writer_harms_nobody_and_is_not_harmed(tmp_path: Path) -> None:
    with embedded(tmp_path / "lake", spark="off") as system, system.client() as client:
        table = as_path(system.settings.lake) / "t"
        client.append("t", pa.table({"key": [0], "value": ["first"]})).result(60)

        with _outside_writer(tmp_path, table) as outside:
            futures = []
            for number in range(1, COUNT + 1):
                row = pa.table({"key": [number], "value": ["appended"]})
                futures.append(client.append("t", row))
                row = pa.table({"key": [number], "value": ["merged"]})
                futures.append(client.merge("t", row, keys=["key"]))
                futures[-1].result(60)

        outcomes = [f.result(60) for f in futures]
        assert any((o.attempt or 0) > 1 for o in outcomes), "they never met: this proves nothing"
        versions = [o.version or 0 for o in outcomes]
        assert versions == sorted(versions)
        assert client.status() == []
        rows = DeltaTable(table).to_pyarrow_table().sort_by("key").to_pydict()
    assert outside[0] > 1
    assert rows["key"] == [*range(-outside[0], COUNT + 1)]
    assert rows["value"] == ["outside"] * outside[0] + ["first"] + ["merged"] * COUNT
    assert [r[1] for r in committed_requests(table, maintenance=False)] == [
        *range(1, 2 * COUNT + 2)
    ]
