"""Backfills that go on after a failure, and what a process that was stopped before does to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from deltaq.client import Client
from deltaq.tasks.backfill import Backfill, Ending, Verdict
from deltaq.tasks.location import Location, move
from deltaq.tasks.signing import signer_of
from deltaq.worker.backfill.names import left_behind
from deltaq.worker.engines.urls import open_table
from tests.support.backfills import manifest_of, parquet_parts, prepare_here
from tests.support.load_bench import SCHEMA, Loads, prices
from tests.support.redis import RedisServer


def _add_rule(path: Location) -> None:
    open_table(path).alter.add_constraint({"small": "id < 5000"})


def _make_partitioned(path: Location) -> None:
    write_deltalake(str(path), prices(10_000, rows=1), partition_by=["month"])


def _widen_type(path: Location) -> None:
    rows = prices(10_000, rows=1)
    wider = rows.set_column(2, "month", rows.column("month").cast(pa.int64()))
    write_deltalake(str(path), wider, mode="overwrite", schema_mode="overwrite")


@pytest.mark.parametrize(
    ("before", "change", "named"),
    [(600, _add_rule, "small"), (0, _make_partitioned, "month"), (600, _widen_type, "month")],
)
def test_a_table_that_changed_meanwhile_refuses_what_was_prepared_for_it_until_it_is_resumed(
    loads: Loads, client: Client, before: int, change: Callable[[Location], None], named: str
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
