"""How far a backfill is, by what its folder says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from msgspec import structs

from deltaq.client.backfill_progress import (
    BackfillProgress,
    BackfillState,
    ProgressReader,
    progress_with,
    read_progress,
)
from deltaq.client.backfill_replan import replanned
from deltaq.tasks.backfill import Backfill, Claim, Ending, Prepared, Verdict
from deltaq.tasks.error_info import ErrorInfo
from deltaq.tasks.errors import InvalidRequest, SchemaMismatch
from deltaq.tasks.manifest import Manifest, Part, Slice, piece_numbers
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Column
from deltaq.tasks.staging import StagingArea


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def manifest(*paths: Path, began_ms: int = 0) -> Manifest:
    """Make a manifest with a part for each file."""
    slices = [Slice(path=str(path), file_bytes=path.stat().st_size) for path in paths]
    return Manifest(
        backfill_id="b",
        table="prices",
        client_id="0" * 32,
        submitted_at_ms=began_ms or now_ms(),
        columns=(Column(name="n", type="bigint"),),
        parts=tuple(
            Part(number=n, format="csv", slices=(piece,), size_bytes=1_000_000)
            for n, piece in enumerate(slices)
        ),
    )


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{n}.csv" for n in range(4)]
    for path in paths:
        path.write_text("n\n1\n")
    return paths


@pytest.fixture
def backfill(tmp_path: Path) -> Backfill:
    return Backfill(StagingArea(tmp_path), "b")


def prepare(backfill: Backfill, number: int, *, seconds: float = 5.0) -> None:
    backfill.add_part(
        Prepared(
            number=number,
            files=(),
            rows=100,
            source_bytes=1_000_000,
            seconds=seconds,
            worker="w",
            finished_at_ms=now_ms(),
        )
    )


def test_rate_and_time_left_are_by_bytes_of_source(backfill: Backfill, files: list[Path]) -> None:
    backfill.write_manifest(manifest(*files, began_ms=now_ms() - 10_000))
    prepare(backfill, 1)

    progress = ProgressReader(backfill).read()

    assert (progress.prepared, progress.parts, progress.rows) == (1, 4, 100)
    assert progress.mb_per_second == pytest.approx(0.1, rel=0.2)
    assert progress.seconds_left == pytest.approx(30, rel=0.2)
    assert str(progress).startswith("preparing: 1 of 4 parts, 100 rows, 0.1 MB/s, 3")


def test_nothing_is_said_of_the_time_left_before_a_part_is_prepared(
    backfill: Backfill, files: list[Path]
) -> None:
    backfill.write_manifest(manifest(*files))

    progress = ProgressReader(backfill).read()

    assert progress.seconds_left is None
    assert str(progress) == "preparing: 0 of 4 parts, 0 rows"


def test_a_part_that_takes_far_longer_than_others_is_a_straggler(
    backfill: Backfill, files: list[Path]
) -> None:
    backfill.write_manifest(manifest(*files))
    for number in (0, 1):
        prepare(backfill, number)
    reader = ProgressReader(backfill)
    reader.read()
    claims = [
        (2, Claim(worker="slow", began_at_ms=now_ms() - 60_000, token="t")),
        (3, Claim(worker="usual", began_at_ms=now_ms() - 14_000, token="t")),
    ]

    assert reader.missing() == [2, 3]
    (found,) = reader.stragglers(claims)
    assert (found.part, found.worker, round(found.seconds)) == (2, "slow", 60)


def test_pieces_are_counted_in_the_place_of_a_part_that_was_cut(
    backfill: Backfill, files: list[Path]
) -> None:
    load = manifest(*files)
    backfill.write_manifest(load)
    prepare(backfill, 0)
    pieces = tuple(
        structs.replace(load.parts[1], number=number, size_bytes=250_000)
        for number in piece_numbers(1, 4)[:4]
    )
    backfill.add_part(
        Prepared(number=1, pieces=pieces, seconds=60.0, worker="w", finished_at_ms=now_ms())
    )
    reader = ProgressReader(backfill)

    progress = reader.read()

    assert (progress.prepared, progress.parts, progress.rows) == (1, 7, 100)
    assert progress.source_bytes_total == 4_000_000
    assert reader.missing() == [*(piece.number for piece in pieces), 2, 3]
    claim = Claim(worker="w", began_at_ms=now_ms() - 20_000, token="t")
    assert [s.part for s in reader.stragglers([(pieces[0].number, claim)])] == [pieces[0].number]


def test_what_is_prepared_anew_after_a_failure_is_counted_anew(
    backfill: Backfill, files: list[Path]
) -> None:
    backfill.write_manifest(manifest(*files))
    prepare(backfill, 0)
    reader = ProgressReader(backfill)
    assert reader.read().prepared == 1

    error = ErrorInfo(code="invalid_frame", message="0.csv: line 7")
    backfill.decide(Verdict(ending=Ending.FAILED, at_ms=now_ms(), error=error))
    backfill.forget_parts()

    progress = reader.read()
    assert (progress.state, progress.prepared) == (BackfillState.FAILED, 0)
    assert progress.error == error


def test_one_that_is_adopted_is_told_by_its_verdict(backfill: Backfill, files: list[Path]) -> None:
    backfill.write_manifest(manifest(*files))
    backfill.decide(
        Verdict(ending=Ending.ADOPTED, at_ms=now_ms(), version=3, rows=400, files=2, cleaned=True)
    )

    progress = read_progress(backfill)

    assert (progress.state, progress.version, progress.files) == (BackfillState.ADOPTED, 3, 2)
    assert (progress.prepared, progress.rows, progress.source_bytes) == (4, 400, 4_000_000)


def test_one_that_is_gone_is_listed_as_unreadable(backfill: Backfill) -> None:
    assert read_progress(backfill).state is BackfillState.UNREADABLE


def test_no_time_has_passed_when_clocks_differ(backfill: Backfill, files: list[Path]) -> None:
    backfill.write_manifest(manifest(*files, began_ms=now_ms() + 60_000))

    progress = ProgressReader(backfill).read()

    assert (progress.seconds, progress.mb_per_second) == (0.0, 0.0)


def test_sources_that_are_as_they_were_are_not_planned_anew(
    backfill: Backfill, files: list[Path]
) -> None:
    assert replanned(backfill, manifest(*files)) is None


def test_a_mended_source_is_planned_anew_with_the_others(
    backfill: Backfill, files: list[Path]
) -> None:
    before = manifest(*files)
    files[2].write_text("n\n1\n2\n3\n")

    after = replanned(backfill, before)

    assert after is not None
    pieces = [piece for part in after.parts for piece in part.slices]
    assert [(p.path, p.file_bytes) for p in pieces] == [
        (str(path), path.stat().st_size) for path in files
    ]
    assert after.columns == before.columns


def test_a_source_with_another_column_or_none_cannot_be_resumed(
    backfill: Backfill, files: list[Path]
) -> None:
    before = manifest(*files)
    files[2].write_text("n,m\n1,2\n")
    with pytest.raises(SchemaMismatch, match=r"2\.csv: the schema has no column 'm'"):
        replanned(backfill, before)
    files[2].unlink()
    with pytest.raises(InvalidRequest, match=r"2\.csv: there is no such file"):
        replanned(backfill, before)


def test_a_list_needs_no_more_than_an_id_and_a_table() -> None:
    bare = BackfillProgress(backfill_id="b", table="", state=BackfillState.UNREADABLE)
    assert (bare.done, bare.total, bare.mb_per_second, bare.seconds_left) == (0, 0, 0.0, None)


def test_one_that_is_committed_is_whole_whatever_its_folder_still_says(
    backfill: Backfill, files: list[Path]
) -> None:
    backfill.write_manifest(manifest(*files))
    # Its worker has removed the notes of the parts since the verdict was read.
    backfill.decide(Verdict(ending=Ending.ADOPTING, at_ms=now_ms()))
    committed = Outcome(
        request_id="b", table="prices", operation="adopt", state=State.COMMITTED, version=3, rows=9
    )

    found = progress_with(ProgressReader(backfill).read(), committed)

    assert (found.state, found.version, found.rows) == (BackfillState.ADOPTED, 3, 9)
    assert (found.prepared, found.parts) == (4, 4)
    assert found.source_bytes == found.source_bytes_total
