"""Backfills whose workers, Redis or client are killed: all of it is in the table, and once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from deltaq.tasks.backfill import Backfill, Ending
from deltaq.tasks.manifest import Manifest
from deltaq.tasks.staging import StagingArea
from deltaq.worker import System, embedded
from deltaq.worker.backfill.names import left_behind
from tests.support.backfill_worker import PLACES
from tests.support.backfills import begin, manifest_of, parquet_parts
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(240)

FRAMES = [
    pa.table({"id": range(at, at + 2000), "g": [at % 3] * 2000}) for at in range(0, 6000, 2000)
]


def load(system: System, folder: Path, table: str) -> tuple[Manifest, Backfill]:
    parts = parquet_parts(folder / table, FRAMES)
    manifest = manifest_of(FRAMES[0].schema, parts, table=table, partition_by=("g",))
    return manifest, begin(StagingArea(system.settings.staging_root), manifest)


def ended(backfill: Backfill) -> bool:
    verdict = backfill.verdict()
    return verdict is not None and verdict.cleaned


def check_whole(system: System, manifest: Manifest, backfill: Backfill) -> None:
    """Check that all rows are there once, in one commit, and that nothing is left behind."""
    verdict = backfill.verdict()
    assert verdict is not None
    assert verdict.ending is Ending.ADOPTED, verdict
    path = system.settings.lake / manifest.table
    table = DeltaTable(str(path))
    ids = table.to_pyarrow_table(columns=["id"]).column("id").to_pylist()
    assert sorted(ids) == list(range(6000))
    assert table.version() == 0
    there = {str(file) for file in left_behind(path, manifest.backfill_id)}
    assert there == set(table.file_uris())
    assert not backfill.uploads.exists()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with embedded(tmp_path / "lake", workers=0, spark="off", lease_ttl=1.0) as system:
        yield system


@pytest.mark.slow
def test_a_worker_killed_at_any_step_leaves_a_backfill_that_the_next_one_ends(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    for place in PLACES:
        folder = tmp_path / place
        folder.mkdir()
        begun.append(load(system, tmp_path, place))
        monkeypatch.setenv("FAULT", place)
        monkeypatch.setenv("FAULT_FOLDER", str(folder))
        # It also goes on with what the one before has left.
        system.start_worker(module="tests.support.backfill_worker")
        wait_until((folder / "died").exists, within=60, saying=lambda: _log(system))
        wait_until(lambda: not system.worker_pids, within=10)
    monkeypatch.delenv("FAULT")
    system.start_worker()
    for manifest, backfill in begun:
        wait_until(lambda: ended(backfill), within=60, saying=lambda: _log(system))  # noqa: B023
        check_whole(system, manifest, backfill)


def test_a_backfill_survives_the_loss_of_redis_and_the_death_of_its_client(
    system: System, tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.support.backfills import *;"
        "from tests.fault.test_backfill import FRAMES; from deltaq.tasks.staging import StagingArea;"
        "parts = parquet_parts(Path(sys.argv[2]), FRAMES);"
        "manifest = manifest_of(FRAMES[0].schema, parts, table='t', partition_by=('g',),"
        " backfill_id='mine');"
        "begin(StagingArea(Path(sys.argv[1])), manifest)"
    )
    root = system.settings.staging_root
    subprocess.run([sys.executable, "-c", program, str(root), str(tmp_path / "src")], check=True)
    backfill = Backfill(StagingArea(root), "mine")
    system.start_worker()
    wait_until(lambda: backfill.prepared() or ended(backfill), within=60)

    server = system.redis._process
    assert server is not None
    server.kill()
    server.wait()
    for file in system.redis._data.rglob("*"):
        if file.is_file():
            file.unlink()
    system.redis.start()

    wait_until(lambda: ended(backfill), within=90, saying=lambda: _log(system))
    manifest = backfill.manifest()
    check_whole(system, manifest, backfill)


def _log(system: System) -> str:
    return system.log.read_text()[-3000:] if system.log.exists() else "no log"
