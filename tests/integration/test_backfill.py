"""Backfills prepared and adopted on real tables, read back by both engines."""

from __future__ import annotations

import json
import time
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from deltaq.client import Client
from deltaq.client.results import rows_in
from deltaq.tasks.backfill import Ending
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.outcome import State
from deltaq.tasks.query import Read
from deltaq.tasks.settings import Settings
from deltaq.worker.backfill.names import left_behind
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.engines.urls import open_table
from deltaq.worker.lake import Lake
from deltaq.worker.warm import WarmSpark
from tests.support.backfills import begin, manifest_of, parquet_parts
from tests.support.load_bench import SCHEMA, Loads, prices


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
    native = open_table(loads.path(manifest)).to_pyarrow_table()
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
            pa.table(open_table(loads.path(m)).get_add_actions(flatten=True)).drop_columns(
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

    table = open_table(loads.path(manifest))
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
        if "/symbol=a%2Fb/month=1/" not in str(file)
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


def test_rules_of_the_table_hold_for_its_rows(loads: Loads) -> None:
    good = loads.load(prices())
    loads.end(good)
    open_table(loads.path(good)).alter.add_constraint({"positive": "price >= 0"})
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
    table = open_table(loads.path(asked))
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

    found = open_table(loads.path(manifest)).to_pyarrow_table(columns=["id", "symbol"])
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


def test_changes_of_replaced_partitions_are_in_the_change_feed(loads: Loads) -> None:
    first = loads.load(prices(), partition_by=("month",))
    loads.end(first)
    path = loads.path(first)
    open_table(path).alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    second = loads.load(prices(1000, rows=10), mode="replace_partitions")

    assert loads.end(second).ending is Ending.ADOPTED

    feed = pa.table(open_table(path).load_cdf(starting_version=2))
    kinds = feed.column("_change_type").value_counts().to_pylist()
    assert {kind["values"]: kind["counts"] for kind in kinds} == {"insert": 10, "delete": 600}


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
