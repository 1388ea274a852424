"""What the benchmark of backfills loads, and how it finds that a row is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.backfill_data import PARTITION_BY, write_bars
from deltalake import DeltaTable

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_bars_are_loaded_without_deltaq_and_a_row_less_is_noticed(
    kind: str, tmp_path: Path
) -> None:
    bars = write_bars(tmp_path / "bars", 1000)
    table = tmp_path / "table"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.backfill_bare", kind, getattr(bars, kind), table],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )

    assert json.loads(ended.stdout)["seconds"] > 0
    assert bars.rows == 1000
    assert bars.are_in(table)
    assert DeltaTable(str(table)).metadata().partition_columns == PARTITION_BY
    assert len(DeltaTable(str(table)).partitions()) == 12 * 10
    DeltaTable(str(table)).delete("symbol = 'S007' and month = '2023-03'")
    assert not bars.are_in(table)
