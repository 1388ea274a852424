"""Backfills prepared and adopted on real tables, read back by both engines."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from deltaq.client import Client
from deltaq.client.results import rows_in
from deltaq.tasks import keys
from deltaq.tasks.backfill import Backfill, Ending, Verdict
from deltaq.tasks.errors import DeltaqError, InvalidRequest, InvalidSignature
from deltaq.tasks.location import move
from deltaq.tasks.manifest import Manifest
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.query import Read
from deltaq.tasks.request import Vacuum
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.signing import signer_of
from deltaq.worker.backfill.adopting import stage_adopt
from deltaq.worker.backfill.helper import Process
from deltaq.worker.backfill.names import left_behind
from deltaq.worker.backfill.preparing import Answer
from deltaq.worker.backfill.service import Backfills
from deltaq.worker.backfill.vacuuming import check_vacuum
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.lake import Lake
from deltaq.worker.warm import WarmSpark
from tests.support.backfills import (
    begin,
    manifest_of,
    parquet_parts,
    part_of,
    prepare_here,
    slice_of,
)
from tests.support.bench import Bench
from tests.support.places import on_disk
from tests.support.redis import RedisServer
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
        self.lake = on_disk(settings.lake)
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

    def path(self, manifest: Manifest) -> Path:
        return self.lake / manifest.table

    def rows(self, manifest: Manifest) -> list[int]:
        """Read the ids in a table, sorted."""
        found = DeltaTable(str(self.path(manifest))).to_pyarrow_table(columns=["id"])
        return sorted(found.column("id").to_pylist())

    def outcome(self, manifest: Manifest) -> Outcome:
        (outcome,) = self.bench.inbox.outcomes([(manifest.table, manifest.backfill_id)])
        assert isinstance(outcome, Outcome)
        return outcome

    def close(self) -> None:
        self.backfills.close()
        self.bench.close()


@pytest.fixture
def loads(settings: Settings, tmp_path: Path) -> Iterator[Loads]:
    loads = Loads(settings, tmp_path)
    yield loads
    loads.close()


@pytest.fixture
def loader(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Loads]]:
    """Make workers of other settings."""
    made: list[Loads] = []

    def make(**more: Any) -> Loads:
        given = load_settings(**{**settings.model_dump(exclude_unset=True), **more})
        made.append(Loads(given, tmp_path))
        return made[-1]

    yield make
    for loads in made:
        loads.close()


@pytest.mark.timeout(300)
def test_all_parts_become_one_commit_that_both_engines_read(
    loads: Loads, warm_spark: WarmSpark, tmp_path: Path
) -> None:
    frames = [prices(), prices(600), prices(1200)]
    manifest = loads.load(*frames, partition_by=("symbol", "month"), sort_by=("at",))

    verdict = loads.end(manifest)

    assert (verdict.ending, verdict.version, verdict.rows) == (Ending.ADOPTED, 0, 1800)
    outcome = loads.outcome(manifest)
    assert (outcome.state, outcome.version, outcome.inserted) == (State.COMMITTED, 0, 1800)
    wider = prices(1800).append_column("extra", pa.array(["e"] * 600))
    more = manifest_of(
        wider.schema, parquet_parts(loads.folder / "wider", [wider]), widen=True, sort_by=("at",)
    )
    begin(loads.bench.staging, more)
    assert loads.end(more).version == 1
    whole = pa.concat_tables([*frames, wider], promote_options="default")
    native = DeltaTable(str(loads.path(manifest))).to_pyarrow_table()
    assert native.select(whole.column_names).sort_by("id").equals(whole)
    for where in (
        None,
        "symbol = 'ü%' AND month = 2",
        "at >= '1970-01-01 00:10:00'",
        "extra = 'e'",
    ):
        query = Read(
            request_id="r", client_id="0" * 32, table=manifest.table, where=where, columns=("id",)
        )
        spark = SparkEngine(warm_spark, Lake(loads.lake), loads.bench.staging)
        folder = tmp_path / f"read-{time.monotonic_ns()}"
        spark.read(query, folder)
        assert _ids(folder) == _expected(whole, where)
    assert not (loads.backfill(manifest).folder / "parts").exists()


@pytest.mark.timeout(300)
def test_the_executors_of_spark_prepare_the_same_files(
    settings: Settings, warm_spark: WarmSpark, tmp_path: Path
) -> None:
    loads = Loads(settings, tmp_path, warm=warm_spark)
    frames = [prices(), prices(600)]
    try:
        tables = {
            engine: loads.load(*frames, engine=engine, table=engine, partition_by=("month",))
            for engine in ("native", "spark")
        }
        for manifest in tables.values():
            assert loads.end(manifest).ending is Ending.ADOPTED
        native, spark = (
            pa.table(DeltaTable(str(loads.path(m))).get_add_actions(flatten=True)).drop_columns(
                ["path", "modification_time"]
            )
            for m in tables.values()
        )
        assert native.sort_by("min.id").equals(spark.sort_by("min.id"))

        bad = [*frames, prices().rename_columns([f"_{name}" for name in SCHEMA.names])]
        verdict = loads.end(loads.load(*bad, engine="spark", table="bad"))
        assert (verdict.ending, verdict.part) == (Ending.FAILED, 2)
    finally:
        loads.close()


def test_a_part_whose_process_is_killed_is_begun_again_three_times(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Process.answer

    def killed(process: Process, timeout: float) -> Answer | None:
        assert process._process is not None
        process._process.kill()
        return answer(process, timeout)

    monkeypatch.setattr(Process, "answer", killed)
    verdict = loads.end(loads.load(prices(rows=1)))
    assert verdict.error is not None
    assert verdict.error.code == "dead_lettered"
    assert verdict.error.details["crashes"] == 3

    monkeypatch.setattr(Process, "answer", answer)
    assert loads.end(loads.load(prices(rows=1))).ending is Ending.ADOPTED


def test_a_disk_that_takes_nothing_is_waited_for(
    loads: Loads, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = loads.lake / "prices" / "month=1"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where a folder is to be")
    manifest = loads.load(prices(rows=1), partition_by=("month",))
    tries = keys.prepare_tries(manifest.table, manifest.backfill_id)
    for _ in range(2):
        loads.bench.redis.delete(tries)
        loads.backfills.sweep()
        wait_until(lambda: loads.bench.redis.hget(tries, "0") == "0", within=30)
    assert loads.backfill(manifest).verdict() is None
    assert caplog.text.count("backfills are put off") == 1

    blocked.unlink()
    assert loads.end(manifest).ending is Ending.ADOPTED


def test_a_worker_without_spark_refuses_a_backfill_that_asks_for_it(loads: Loads) -> None:
    verdict = loads.end(loads.load(prices(), engine="spark"))
    assert verdict.error is not None
    assert verdict.error.code == "engine_refused"


def _ids(folder: Path) -> list[int]:
    rows = rows_in(folder)
    return [] if rows is None else sorted(rows.column("id").to_pylist())


def _expected(whole: pa.Table, where: str | None) -> list[int]:
    keep = {
        None: pc.scalar(True),
        "symbol = 'ü%' AND month = 2": (pc.field("symbol") == "ü%") & (pc.field("month") == 2),
        "at >= '1970-01-01 00:10:00'": pc.field("at")
        >= pa.scalar(600_000_000, pa.timestamp("us", "UTC")),
        "extra = 'e'": pc.field("extra") == "e",
    }[where]
    return sorted(whole.filter(keep).column("id").to_pylist())


def test_statistics_leave_one_partition_s_files_to_be_read(loads: Loads) -> None:
    manifest = loads.load(prices(), prices(600), partition_by=("month",), sort_by=("id",))
    loads.end(manifest)

    table = DeltaTable(str(loads.path(manifest)))
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    touched = [a for a in actions if a["partition.month"] == 2 and a["max.id"] >= 600]

    assert len(actions) == 4
    assert len(touched) == 1
    assert touched[0]["num_records"] == 300
    assert touched[0]["min.id"] == 601


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["native", "spark"])
def test_a_read_of_one_symbol_and_month_opens_no_other_partition_s_files(
    loads: Loads, tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    manifest = loads.load(prices(), prices(600), partition_by=("symbol", "month"))
    loads.end(manifest)
    others = [
        file
        for file in left_behind(loads.path(manifest), manifest.backfill_id)
        if not on_disk(file).is_relative_to(loads.path(manifest) / "symbol=a%2Fb" / "month=1")
    ]
    assert len(others) == 10
    for file in others:
        file.unlink()  # whoever opens one fails
    lake, staging = Lake(loads.lake), loads.bench.staging
    reader = (
        NativeEngine(lake, staging)
        if engine == "native"
        else SparkEngine(request.getfixturevalue("warm_spark"), lake, staging)
    )

    def read(where: str) -> list[int]:
        folder = tmp_path / f"read-{time.monotonic_ns()}"
        query = Read(
            request_id="r", client_id="0" * 32, table=manifest.table, where=where, columns=("id",)
        )
        reader.read(query, folder)
        return _ids(folder)

    assert read("symbol = 'a/b' AND month = 1") == list(range(0, 1200, 6))
    with pytest.raises(DeltaqError):
        read("symbol = 'a/b'")


@pytest.mark.parametrize("mode", ["append", "overwrite", "replace_partitions"])
def test_what_becomes_of_the_rows_of_a_table_is_what_the_mode_says(loads: Loads, mode: str) -> None:
    first = loads.load(prices(), partition_by=("symbol", "month"))
    loads.end(first)
    new = prices(10_000, rows=60).filter(
        ((pc.field("symbol") == "a/b") & (pc.field("month") == 1))
        | (pc.field("symbol").is_null() & (pc.field("month") == 2))
    )

    second = loads.load(new, mode=mode)
    assert loads.end(second).ending is Ending.ADOPTED

    replaced = prices().filter(
        ((pc.field("symbol") == "a/b") & (pc.field("month") == 1))
        | (pc.field("symbol").is_null() & (pc.field("month") == 2))
    )
    gone = {
        "append": [],
        "overwrite": list(range(600)),
        "replace_partitions": replaced.column("id").to_pylist(),
    }[mode]
    kept = sorted(set(range(600)) - set(gone))
    assert loads.rows(second) == kept + sorted(new.column("id").to_pylist())
    assert loads.outcome(second).deleted == len(gone)


def test_one_bad_part_fails_all_before_anything_is_visible(loads: Loads) -> None:
    parts = parquet_parts(loads.folder / "good", [prices(n * 600) for n in range(4)])
    bad = loads.folder / "bad.csv"
    bad.write_text("id,price\n1,2.5\n2,cheap\n")
    parts.append(part_of(4, slice_of(bad), format="csv"))
    manifest = manifest_of(SCHEMA, parts)
    begin(loads.bench.staging, manifest)

    verdict = loads.end(manifest)

    assert (verdict.ending, verdict.part) == (Ending.FAILED, 4)
    assert verdict.error is not None
    assert verdict.error.message.startswith(f"{bad}: line 3: column 'price'")
    assert not loads.path(manifest).exists()
    assert loads.backfill(manifest).prepared() == set()

    bad.write_text("id,price\n1,2.5\n2,9.5\n")
    mended = part_of(4, slice_of(bad), format="csv")
    backfill = loads.backfill(manifest)
    backfill.replan(msgspec.structs.replace(manifest, parts=(*parts[:4], mended)))
    backfill.reopen()
    assert loads.end(manifest).ending is Ending.ADOPTED
    assert len(loads.rows(manifest)) == 2402


def test_what_workers_may_not_load_fails_before_anything_is_prepared(
    loads: Loads, loader: Callable[..., Loads]
) -> None:
    strict = loader(backfill_sources=[loads.folder / "incoming"])
    parts = parquet_parts(loads.folder / "incoming", [prices(n * 600) for n in range(2)])
    (outside,) = parquet_parts(loads.folder / "outside", [prices()])
    manifest = manifest_of(SCHEMA, [*parts, msgspec.structs.replace(outside, number=2)])
    begin(strict.bench.staging, manifest)

    verdict = strict.end(manifest)

    assert verdict.ending is Ending.FAILED
    assert verdict.error is not None
    assert verdict.error.code == "invalid_request"
    assert f"{outside.slices[0].path!r} is" in verdict.error.message
    assert f"({loads.folder / 'incoming'}): add its folder to backfill_sources" in (
        verdict.error.message
    )
    assert not strict.path(manifest).exists()

    hostile = manifest_of(
        SCHEMA, [part_of(0, slice_of(Path("/etc/passwd")), format="csv")], table="t"
    )
    begin(strict.bench.staging, hostile)
    refused = strict.end(hostile).error
    assert refused is not None
    assert "backfill_sources" in refused.message
    assert "root:" not in str(refused)


def test_what_was_uploaded_is_loaded_by_workers_that_may_read_nothing_else(
    loader: Callable[..., Loads],
) -> None:
    strict = loader(backfill_sources=[])
    backfill = Backfill(strict.bench.staging, "uploaded")
    (part,) = parquet_parts(on_disk(backfill.uploads), [prices()])
    relative = msgspec.structs.replace(part.slices[0], path="uploads/0.parquet")
    manifest = manifest_of(
        SCHEMA,
        [msgspec.structs.replace(part, slices=(relative,))],
        backfill_id="uploaded",
    )
    begin(strict.bench.staging, manifest)
    assert strict.end(manifest).ending is Ending.ADOPTED


def test_a_cancelled_backfill_leaves_nothing_behind(loads: Loads) -> None:
    manifest = loads.load(*(prices(n * 600) for n in range(3)))
    loads.backfills.sweep()
    wait_until(lambda: loads.backfill(manifest).prepared(), within=60)
    assert loads.backfill(manifest).decide(Verdict(ending=Ending.CANCELLED, at_ms=0))

    assert loads.end(manifest).ending is Ending.CANCELLED

    assert list(left_behind(loads.lake, manifest.backfill_id)) == []
    assert loads.backfill(manifest).prepared() == set()


def test_rules_of_the_table_hold_for_its_rows(loads: Loads) -> None:
    good = loads.load(prices())
    loads.end(good)
    DeltaTable(str(loads.path(good))).alter.add_constraint({"positive": "price >= 0"})
    wrong = prices(600).set_column(3, "price", pa.array([-1.0] * 600))

    verdict = loads.end(loads.load(wrong))

    assert verdict.error is not None
    assert verdict.error.code == "constraint_violated"
    assert "positive (price >= 0)" in verdict.error.message
    assert loads.end(loads.load(prices(600))).ending is Ending.ADOPTED


def test_new_columns_come_only_when_they_are_asked_for(loads: Loads) -> None:
    first = loads.load(prices())
    loads.end(first)
    wider = prices(600).append_column("extra", pa.array(["e"] * 600))
    parts = parquet_parts(loads.folder / "wider", [wider])

    refused = manifest_of(wider.schema, parts)
    begin(loads.bench.staging, refused)
    verdict = loads.end(refused)
    assert verdict.error is not None
    assert verdict.error.code == "schema_mismatch"

    asked = manifest_of(wider.schema, parts, widen=True)
    begin(loads.bench.staging, asked)
    assert loads.end(asked).ending is Ending.ADOPTED
    table = DeltaTable(str(loads.path(asked)))
    found = table.to_pyarrow_table()
    assert found.num_rows == 1200
    assert found.column("extra").null_count == 600
    assert table.version() == 1  # columns and rows at once


def test_narrower_files_and_absent_columns_fit_a_wider_table(loads: Loads) -> None:
    narrow = prices(600).set_column(0, "id", prices(600).column("id").cast(pa.int32()))
    manifest = loads.load(prices(), narrow.drop_columns(["note"]))
    assert loads.end(manifest).ending is Ending.ADOPTED
    assert loads.rows(manifest) == list(range(1200))


def test_rows_without_the_column_that_partitions_are_in_the_partition_of_null(loads: Loads) -> None:
    loads.end(loads.load(prices(), partition_by=("symbol",)))
    bare = prices(600).drop_columns(["symbol"])
    parts = parquet_parts(loads.folder / "bare", [bare])
    manifest = manifest_of(bare.schema, parts)
    begin(loads.bench.staging, manifest)

    assert loads.end(manifest).ending is Ending.ADOPTED

    found = DeltaTable(str(loads.path(manifest))).to_pyarrow_table(columns=["id", "symbol"])
    assert found.filter(pc.field("id") >= 600).column("symbol").null_count == 600


@pytest.mark.parametrize(("mode", "left"), [("append", 600), ("overwrite", 0)])
def test_a_backfill_without_rows_is_a_commit_like_any_other(
    loads: Loads, mode: str, left: int
) -> None:
    first = loads.load(prices(rows=0))
    assert loads.end(first).version == 0
    loads.end(loads.load(prices()))

    assert loads.end(loads.load(prices(rows=0), mode=mode)).version == 2

    assert len(loads.rows(first)) == left


def _add_rule(path: Path) -> None:
    DeltaTable(str(path)).alter.add_constraint({"small": "id < 5000"})


def _make_partitioned(path: Path) -> None:
    write_deltalake(str(path), prices(10_000, rows=1), partition_by=["month"])


def _widen_type(path: Path) -> None:
    rows = prices(10_000, rows=1)
    wider = rows.set_column(2, "month", rows.column("month").cast(pa.int64()))
    write_deltalake(str(path), wider, mode="overwrite", schema_mode="overwrite")


@pytest.mark.parametrize(
    ("before", "change", "named"),
    [(600, _add_rule, "small"), (0, _make_partitioned, "month"), (600, _widen_type, "month")],
)
def test_a_table_that_changed_meanwhile_refuses_what_was_prepared_for_it_until_it_is_resumed(
    loads: Loads, client: Client, before: int, change: Callable[[Path], None], named: str
) -> None:
    if before:
        loads.end(loads.load(prices(0, rows=before)))
    manifest = loads.load(prices(600))
    backfill = loads.backfill(manifest)
    for part in prepare_here(manifest, loads.lake, loads.folder):
        backfill.add_part(part)
    change(loads.path(manifest))
    there = loads.rows(manifest)

    verdict = loads.end(manifest)

    assert verdict.ending is Ending.FAILED
    assert verdict.error is not None
    assert named in verdict.error.message
    assert loads.rows(manifest) == there
    assert list(left_behind(loads.path(manifest), manifest.backfill_id)) == []
    future = client.resume_backfill(manifest.backfill_id)
    loads.end(manifest)
    assert future.result(30).rows == 600
    assert loads.rows(manifest) == sorted([*there, *range(600, 1200)])


@pytest.mark.parametrize("late", ["before its commit", "after its commit"])
def test_a_process_that_was_stopped_before_a_resume_changes_nothing_after_it(
    loads: Loads, client: Client, late: str
) -> None:
    manifest = loads.load(prices())
    backfill, name = loads.backfill(manifest), manifest.backfill_id
    backfill.decide(Verdict(ending=Ending.FAILED, at_ms=0))
    loads.end(manifest)
    (source,) = {Path(piece.path) for part in manifest.parts for piece in part.slices}
    before, mended = source.read_bytes(), prices(600)
    pq.write_table(mended, source)
    client.resume_backfill(name)
    if late == "after its commit":
        loads.end(manifest)
    source.write_bytes(before)  # it has read it by then
    (stale,) = prepare_here(manifest, loads.lake, loads.folder)
    backfill.add_part(stale)
    pq.write_table(mended, source)

    if late == "before its commit":
        assert loads.end(manifest).ending is Ending.FAILED
        client.resume_backfill(name)
        assert loads.end(manifest).ending is Ending.ADOPTED

    assert loads.rows(manifest) == list(range(600, 1200))


@pytest.mark.parametrize("stopped", ["before its look", "after its look"])
def test_a_worker_that_was_stopped_while_it_cleaned_up_removes_nothing_of_what_was_resumed(
    loads: Loads, client: Client, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    manifest = loads.load(prices())
    backfill = loads.backfill(manifest)
    failed = Verdict(ending=Ending.FAILED, at_ms=0)
    backfill.decide(failed)
    loads.end(manifest)
    client.resume_backfill(manifest.backfill_id)
    adopted = loads.end(manifest)

    finisher = loads.backfills._finisher
    monkeypatch.setattr(finisher, "_version", lambda _: None)  # so it was before
    if stopped == "after its look":
        monkeypatch.setattr(Backfill, "verdict", lambda _: failed)
    finisher._clean(backfill, manifest, failed)
    monkeypatch.undo()

    assert loads.rows(manifest) == list(range(600))
    if stopped == "before its look":
        assert backfill.verdict() == adopted


def test_one_that_was_cancelled_when_all_was_prepared_is_loaded_when_it_is_resumed(
    loads: Loads, client: Client
) -> None:
    manifest = loads.load(prices())
    for part in prepare_here(manifest, loads.lake, loads.folder):
        loads.backfill(manifest).add_part(part)
    with loads.bench.leases.take(manifest.table):  # the request to adopt waits
        loads.backfills.sweep()
        assert client.cancel_backfill(manifest.backfill_id)
    assert loads.end(manifest).ending is Ending.CANCELLED

    future = client.resume_backfill(manifest.backfill_id)

    assert loads.end(manifest).ending is Ending.ADOPTED
    assert future.result(30).rows == 600


def test_the_order_to_adopt_that_a_failed_try_left_does_not_stand_in_for_the_next(
    loader: Callable[..., Loads],
) -> None:
    loads = loader(signing_key="k" * 32)
    staging, signer = loads.bench.staging, signer_of(loads.settings)
    manifest = manifest_of(SCHEMA, parquet_parts(loads.folder / "sources", [prices()]))
    backfill = Backfill(staging, manifest.backfill_id, signer)
    backfill.write_manifest(manifest)
    for part in prepare_here(manifest, loads.lake, loads.folder):
        backfill.add_part(part)
    _make_partitioned(loads.path(manifest))
    loads.backfills.sweep()
    buried = staging.dead_path(manifest.table, manifest.backfill_id)
    # As if a worker had died between its word of the failure and the dead letter.
    move(buried, staging.request_path(manifest.table, manifest.backfill_id))
    loads.end(manifest)

    backfill.reopen()

    assert loads.end(manifest).ending is Ending.ADOPTED


def test_the_request_to_adopt_waits_from_when_it_can_be_adopted(loads: Loads) -> None:
    manifest = manifest_of(SCHEMA, parquet_parts(loads.folder / "sources", [prices()]))
    an_hour_ago = manifest.submitted_at_ms - 3_600_000
    manifest = msgspec.structs.replace(manifest, submitted_at_ms=an_hour_ago)
    begin(loads.bench.staging, manifest)

    verdict = loads.end(manifest)

    assert verdict.seconds is not None
    assert verdict.seconds >= 3600
    waited = loads.outcome(manifest).waited_seconds
    assert waited is not None
    assert waited < 3600


def test_two_workers_that_see_the_commit_leave_one_word_of_it(loads: Loads) -> None:
    manifest = loads.load(prices())
    verdict = loads.end(manifest)

    # The slower one, which saw the commit before the faster one had noted it.
    loads.backfills._finisher._adopted(loads.backfill(manifest), manifest, 0)

    assert loads.verdict(manifest) == verdict


def test_a_redis_that_forgot_everything_ends_the_backfill_once(
    loads: Loads, redis_server: RedisServer
) -> None:
    manifest = loads.load(prices(), prices(600))
    backfill = loads.backfill(manifest)
    done = prepare_here(manifest, loads.lake, loads.folder)
    backfill.add_part(done[0])
    with redis_server.client() as client:
        client.flushall()

    assert loads.end(manifest).ending is Ending.ADOPTED
    with redis_server.client() as client:
        client.flushall()
    # As if the worker had died between the commit and its note of it.
    for part in done:
        backfill.add_part(part)
    backfill.amend(Verdict(ending=Ending.ADOPTING, at_ms=0))
    again = Loads(loads.settings, loads.folder)
    try:
        assert again.end(manifest).version == 0
    finally:
        again.close()
    assert loads.rows(manifest) == list(range(1200))


def test_a_signed_backfill_is_adopted_and_one_that_is_not_fails(
    loader: Callable[..., Loads],
) -> None:
    loads = loader(signing_key="k" * 32)
    signer = signer_of(loads.settings)
    assert signer is not None
    unsigned = loads.load(prices())
    signed = manifest_of(SCHEMA, unsigned.parts)
    Backfill(loads.bench.staging, signed.backfill_id, signer).write_manifest(signed)

    assert loads.end(signed).ending is Ending.ADOPTED

    refused = loads.end(unsigned)
    assert refused.error is not None
    assert refused.error.code == "invalid_signature"
    request = stage_adopt(loads.bench.staging, unsigned, rows=1, at_ms=0, signer=signer)
    staged = loads.bench.staging.request_path(request.table, request.request_id)
    signer.check_request(request, staged)
    with pytest.raises(InvalidSignature):
        signer.check_request(msgspec.structs.replace(request, rows=2), staged)


def test_changes_of_replaced_partitions_are_in_the_change_feed(loads: Loads) -> None:
    first = loads.load(prices(), partition_by=("month",))
    loads.end(first)
    path = str(loads.path(first))
    DeltaTable(path).alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    second = loads.load(prices(1000, rows=10), mode="replace_partitions")

    assert loads.end(second).ending is Ending.ADOPTED

    feed = pa.table(DeltaTable(path).load_cdf(starting_version=2))
    kinds = feed.column("_change_type").value_counts().to_pylist()
    assert {kind["values"]: kind["counts"] for kind in kinds} == {"insert": 10, "delete": 600}


def test_a_vacuum_keeps_the_files_of_a_running_backfill(loads: Loads) -> None:
    first = loads.load(prices())
    loads.end(first)
    manifest = loads.load(prices(600))
    vacuum = Vacuum(
        request_id="v",
        table=manifest.table,
        client_id="0" * 32,
        submitted_at_ms=0,
        digest="",
        size_bytes=0,
        retention_hours=0,
        force=True,
    )

    with pytest.raises(InvalidRequest, match=manifest.backfill_id):
        check_vacuum(vacuum, loads.bench.staging)

    loads.end(manifest)
    check_vacuum(vacuum, loads.bench.staging)


def test_what_ended_long_ago_or_never_began_is_removed_whatever_else_is_there(
    loads: Loads,
) -> None:
    parts = parquet_parts(loads.folder / "sources", [prices(rows=1)])
    damaged, ended, running = (
        begin(loads.bench.staging, manifest_of(SCHEMA, parts, backfill_id=backfill_id))
        for backfill_id in ("a-damaged", "b-ended", "c-running")
    )
    damaged.decide(Verdict(ending=Ending.FAILED, at_ms=0, cleaned=True))
    (damaged.folder / "verdict.json").write_text("{")
    ended.decide(Verdict(ending=Ending.FAILED, at_ms=0, cleaned=True))
    left, recent = (on_disk(damaged.folder).with_name(name) for name in ("d-left", "e-recent"))
    for folder in (left, recent):
        folder.mkdir()
    os.utime(left, (0, 0))

    assert loads.backfills.expire() == 2

    there = {file.name for file in damaged.folder.parent.iterdir()}
    assert there == {"a-damaged", "c-running", "e-recent"}
    assert running.verdict() is None


def test_live_writes_go_on_between_parts(loads: Loads, client: Client) -> None:
    manifest = loads.load(prices(), prices(600))
    backfill = loads.backfill(manifest)
    client.append(manifest.table, prices(5000, rows=10))
    loads.bench.committer.drain(manifest.table)
    assert loads.end(manifest).version == 1
    assert len(loads.rows(manifest)) == 1210
    entry = loads.path(manifest) / "_delta_log" / f"{1:020d}.json"
    actions = [json.loads(line) for line in entry.read_text().splitlines()]
    assert sum("add" in action for action in actions) == 2
    assert backfill.verdict() is not None
