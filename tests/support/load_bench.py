"""What of a worker concerns backfills, and a committer, in the process of a test."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from deltaq.tasks.backfill import Backfill, Verdict
from deltaq.tasks.location import Location
from deltaq.tasks.manifest import Manifest
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.settings import Settings
from deltaq.worker.backfill.service import Backfills
from deltaq.worker.engines.urls import open_table
from deltaq.worker.warm import WarmSpark
from tests.support.backfills import begin, manifest_of, parquet_parts
from tests.support.bench import Bench
from tests.support.waiting import wait_until

SYMBOLS, MONTHS = ("a/b", "ü%", None), (1, 2)


def prices(begin: int = 0, rows: int = 600) -> pa.Table:
    """Make rows of every type that statistics and partitions treat in a way of their own."""
    ids = list(range(begin, begin + rows))
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "symbol": pa.array([SYMBOLS[i % 3] for i in ids], pa.string()),
            "month": pa.array([MONTHS[i % 2] for i in ids], pa.int32()),
            "price": pa.array([i / 7 for i in ids], pa.float64()),
            "amount": pa.array(ids, pa.int64()).cast(pa.decimal128(24, 2)),
            "at": pa.array([i * 1_000_001 for i in ids], pa.timestamp("us", "UTC")),
            "day": pa.array(ids, pa.int32()).cast(pa.date32()),
            "note": pa.array([f"note {i} " + "x" * 40 for i in ids]),
        }
    )


SCHEMA = prices(rows=1).schema


class Loads:
    """A worker's parts that concern backfills, and a committer, in this process."""

    def __init__(self, settings: Settings, folder: Path, *, warm: WarmSpark | None = None) -> None:
        self.bench = Bench(settings)
        self.folder = folder
        self.settings = settings
        self.lake = settings.lake
        self.backfills = Backfills(
            self.bench.redis,
            self.bench.inbox,
            settings,
            worker="test",
            ring=lambda table, _: self.bench.committer.drain(table),
            warm=warm,
        )

    def load(self, *frames: pa.Table, **more: Any) -> Manifest:
        """Begin a backfill of frames, each a part."""
        sources = self.folder / f"sources-{time.monotonic_ns()}"
        manifest = manifest_of(SCHEMA, parquet_parts(sources, frames), **more)
        begin(self.bench.staging, manifest)
        return manifest

    def end(self, manifest: Manifest) -> Verdict:
        """Wait until a backfill has ended, and return how."""
        wait_until(lambda: self._step(manifest), within=60)
        return self.verdict(manifest)

    def _step(self, manifest: Manifest) -> bool:
        self.backfills.sweep()
        self.bench.committer.drain(manifest.table)
        verdict = self.backfill(manifest).verdict()
        return verdict is not None and verdict.cleaned

    def verdict(self, manifest: Manifest) -> Verdict:
        verdict = self.backfill(manifest).verdict()
        assert verdict is not None
        return verdict

    def backfill(self, manifest: Manifest) -> Backfill:
        return Backfill(self.bench.staging, manifest.backfill_id)

    def path(self, manifest: Manifest) -> Location:
        return self.lake / manifest.table

    def rows(self, manifest: Manifest) -> list[int]:
        """Read the ids in a table, sorted."""
        found = open_table(self.path(manifest)).to_pyarrow_table(columns=["id"])
        return sorted(found.column("id").to_pylist())

    def outcome(self, manifest: Manifest) -> Outcome:
        (outcome,) = self.bench.inbox.outcomes([(manifest.table, manifest.backfill_id)])
        assert isinstance(outcome, Outcome)
        return outcome

    def close(self) -> None:
        self.backfills.close()
        self.bench.close()
