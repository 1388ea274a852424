"""A part of far more rows than others is cut: several workers share it, and it survives any of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from deltaq.tasks import keys
from deltaq.tasks.backfill import Backfill, Ending
from deltaq.tasks.connection import connect
from deltaq.tasks.location import Location
from deltaq.tasks.manifest import Manifest
from deltaq.tasks.staging import StagingArea
from deltaq.worker import System
from deltaq.worker.backfill.names import left_behind
from deltaq.worker.engines.urls import open_table
from tests.support.backfills import begin, manifest_of, part_of, slice_of
from tests.support.places import system_at
from tests.support.small_rounds import PARTS, PLACES, ROUND_BYTES
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(240)

MODULE = "tests.support.small_rounds"


@pytest.fixture
def system(place: Location) -> Iterator[System]:
    quick = {"lease_ttl": 1.0, "sweep_interval": 0.1}
    with system_at(place, workers=0, spark="off", **quick) as system:
        yield system


def load(
    system: System, folder: Path, table: str, *, rows: int, claimed_in: redis.Redis | None = None
) -> tuple[Manifest, Backfill]:
    """Begin a backfill of a part with many rows in few bytes, and of one with none.

    The latter may be claimed by nobody.
    """
    columns = {"id": pa.array(range(rows)), **{f"c{n}": pa.nulls(rows, pa.int64()) for n in "123"}}
    large, small = folder / "large.parquet", folder / "small.parquet"
    pq.write_table(pa.table(columns), large, row_group_size=max(1, rows // 64))
    pq.write_table(pa.table(columns).slice(0, 0), small)
    parts = [part_of(n, slice_of(path)) for n, path in enumerate([large, small])]
    assert len(parts) == PARTS
    manifest = manifest_of(pa.table(columns).schema, parts, table=table)
    if claimed_in is not None:
        claimed_in.set(keys.prepare_claim(table, manifest.backfill_id, 1), "nobody")
    return manifest, begin(StagingArea(system.settings.staging_root), manifest)


def ended(backfill: Backfill) -> bool:
    verdict = backfill.verdict()
    return verdict is not None and verdict.cleaned


def check_whole(system: System, manifest: Manifest, backfill: Backfill, *, rows: int) -> None:
    """Check that all rows are there once, in one commit, and that nothing is left behind."""
    verdict = backfill.verdict()
    assert verdict is not None
    assert (verdict.ending, verdict.rows) == (Ending.ADOPTED, rows), verdict
    path = system.settings.lake / manifest.table
    table = open_table(path)
    ids = table.to_pyarrow_table(columns=["id"]).column("id").to_pylist()
    assert sorted(ids) == list(range(rows))
    assert table.version() == 0
    assert {str(file) for file in left_behind(path, manifest.backfill_id)} == set(table.file_uris())
    kept = {"manifest.json", "verdict.json"}
    wait_until(lambda: {file.name for file in backfill.folder.iterdir()} == kept, within=10)


def log(system: System) -> str:
    return system.log.read_text()[-3000:] if system.log.exists() else "no log"


def test_two_workers_share_a_part_of_far_more_rows_than_others(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 2_000_000
    monkeypatch.setenv("ROUND_BYTES", str(rows * 32 // 12))
    for _ in range(2):
        system.start_worker(module=MODULE)
    system.wait_ready()
    with contextlib.closing(connect(system.settings)) as client:
        # A part that nobody prepares, so that the notes of the others can be looked at.
        manifest, backfill = load(system, tmp_path, "t", rows=rows, claimed_in=client)
        wait_until(
            lambda: [part.number for part in backfill.unprepared(manifest)] == [1],
            within=60,
            saying=lambda: log(system),
        )
        parts = backfill.parts(manifest)
        notes = [backfill.part(part.number) for part in parts if part.number != 1]
        client.delete(keys.prepare_claim(manifest.table, manifest.backfill_id, 1))

    assert len(notes) > 8
    assert len({note.worker for note in notes if note}) == 2
    wait_until(lambda: ended(backfill), within=60, saying=lambda: log(system))
    check_whole(system, manifest, backfill, rows=rows)


@pytest.mark.slow
def test_a_worker_killed_while_a_part_is_cut_or_shared_loses_and_doubles_no_row(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 40 * ROUND_BYTES // 32
    begun = []
    for place in PLACES:
        folder = tmp_path / place
        folder.mkdir()
        monkeypatch.setenv("FAULT", place)
        monkeypatch.setenv("FAULT_FOLDER", str(folder))
        begun.append(load(system, folder, place, rows=rows))
        # It also goes on with what the one before has left.
        system.start_worker(module=MODULE)
        wait_until((folder / "died").exists, within=60, saying=lambda: log(system))
        wait_until(lambda: not system.worker_pids, within=10)
    monkeypatch.delenv("FAULT")
    system.start_worker(module=MODULE)
    for manifest, backfill in begun:
        wait_until(lambda: ended(backfill), within=60, saying=lambda: log(system))  # noqa: B023
        check_whole(system, manifest, backfill, rows=rows)
