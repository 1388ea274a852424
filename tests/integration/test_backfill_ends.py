"""Backfills that fail, are cancelled, wait or are forgotten."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from deltaq.tasks import keys
from deltaq.tasks.backfill import Backfill, Ending, Verdict
from deltaq.tasks.errors import InvalidRequest, InvalidSignature
from deltaq.tasks.location import create
from deltaq.tasks.request import Vacuum
from deltaq.tasks.signing import signer_of
from deltaq.worker.backfill.adopting import stage_adopt
from deltaq.worker.backfill.helper import Process
from deltaq.worker.backfill.names import left_behind
from deltaq.worker.backfill.preparing import Answer
from deltaq.worker.backfill.vacuuming import check_vacuum
from tests.support.backfills import begin, manifest_of, parquet_parts, part_of, slice_of
from tests.support.load_bench import SCHEMA, Loads, prices
from tests.support.places import on_disk
from tests.support.waiting import wait_until


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


@pytest.mark.on_disk("has a file in a folder's place")
def test_a_disk_that_takes_nothing_is_waited_for(
    loads: Loads, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = on_disk(loads.lake / "prices" / "month=1")
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
    loader: Callable[..., Loads], tmp_path: Path
) -> None:
    strict = loader(backfill_sources=[])
    backfill = Backfill(strict.bench.staging, "uploaded")
    (part,) = parquet_parts(tmp_path / "uploads", [prices()])
    with create(backfill.uploads / "0.parquet") as file:
        file.write((tmp_path / "uploads" / "0.parquet").read_bytes())
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


@pytest.mark.on_disk("sets the times of folders")
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
