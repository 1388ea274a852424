"""Parts that are too large are cut: whatever the pieces, the rows are the same, and the names differ."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaq.tasks.backfill import Backfill, Prepared, parts_after
from deltaq.tasks.errors import StagedDataMissing
from deltaq.tasks.manifest import MOST_PIECES, Csv, Part, Slice, piece_numbers
from deltaq.tasks.staging import StagingArea
from deltaq.worker.backfill.cutting import Seen, Unit, cut, shared
from tests.support.backfills import manifest_of, part_of, prepare_here, rows_of, slice_of

#: Bytes in memory of a row of these columns.
ROW_BYTES = 16


def rows(begin: int, count: int) -> pa.Table:
    return pa.table({"id": range(begin, begin + count), "same": [0] * count})


def write(path: Path, table: pa.Table, *, group_rows: int = 50) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=group_rows)
    elif path.suffix == ".csv":
        pc.write_csv(table, path)
    elif path.suffix == ".gz":
        text = "".join(f"{json.dumps(row)}\n" for row in table.to_pylist())
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))
    return path


def seen(count: int, *, slices: int = 1) -> Seen:
    return Seen(rows=count, size_bytes=count * ROW_BYTES, slices=slices)


def numbered(number: int = 0, parts: int = 1) -> list[int]:
    return list(piece_numbers(number, parts))


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, MOST_PIECES))))
def test_no_two_parts_or_pieces_have_a_number_whatever_is_cut(
    parts: int, cuts: list[tuple[int, int]]
) -> None:
    waiting, given_out = list(range(parts)), list(range(parts))
    for chosen, count in cuts:
        number = waiting.pop(chosen % len(waiting))
        pieces = list(piece_numbers(number, parts))[:count]
        assert all(piece > number for piece in pieces)
        given_out += pieces
        waiting += pieces or [number]
    assert len(set(given_out)) == len(given_out)


def test_a_piece_of_a_piece_of_a_piece_is_not_cut_for_ever() -> None:
    number, depth = 7, 0
    while numbers := piece_numbers(number, 20_000):
        number, depth = numbers[-1], depth + 1
    assert 5 < depth < 50


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=60), st.integers(1, MOST_PIECES))
def test_shares_have_all_units_in_their_order(weights: list[float], count: int) -> None:
    piece = Slice(path="/a", file_bytes=1)
    units = [Unit(piece=piece, source_bytes=n, weight=w) for n, w in enumerate([*weights, 1.0])]
    shares = shared(units, count)
    assert len(shares) == count
    assert [unit for share in shares for unit in share] == units


@settings(deadline=None, max_examples=40)
@given(
    ending=st.sampled_from([".parquet", ".csv", ".jsonl", ".jsonl.gz"]),
    files=st.lists(st.integers(1, 700), min_size=1, max_size=4),
    group_rows=st.integers(1, 300),
    round_rows=st.integers(10, 400),
    together=st.booleans(),
)
def test_whatever_is_cut_each_row_is_in_one_file_and_no_file_is_left_over(
    ending: str,
    files: list[int],
    group_rows: int,
    round_rows: int,
    together: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    begins = [sum(files[:n]) for n in range(len(files))]
    slices = [
        slice_of(write(folder / f"{n}{ending}", rows(begin, count), group_rows=group_rows))
        for n, (begin, count) in enumerate(zip(begins, files, strict=True))
    ]
    kind = {".parquet": "parquet", ".csv": "csv"}.get(ending, "jsonl")
    parts = [
        part_of(n, *some, format=kind)  # type: ignore[arg-type]
        for n, some in enumerate([slices] if together else [[piece] for piece in slices])
    ]
    manifest = manifest_of(rows(0, 1).schema, parts)

    done = prepare_here(manifest, folder / "lake", folder, round_bytes=round_rows * ROW_BYTES)

    table = folder / "lake" / manifest.table
    assert sorted(rows_of(done, table).column("id").to_pylist()) == list(range(sum(files)))
    noted = [file.path for prepared in done for file in prepared.files]
    assert len(set(noted)) == len(noted)
    assert {str(f.relative_to(table)) for f in table.rglob("*") if f.is_file()} == set(noted)
    again = prepare_here(manifest, folder / "lake", folder, round_bytes=round_rows * ROW_BYTES)
    assert [(p.number, p.pieces) for p in again] == [(p.number, p.pieces) for p in done]


def test_a_part_of_many_more_rows_than_a_round_is_cut_into_pieces_of_about_one(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.parquet", rows(0, 10_000), group_rows=100)
    pieces = cut(part_of(0, slice_of(path)), tmp_path, Csv(), seen(1000), numbered())

    ranges = [piece.slices[0].row_groups for piece in pieces]
    assert [one[1] for one in ranges[:-1] if one] == [one[0] for one in ranges[1:] if one]
    assert (ranges[0] or (1,))[0] == 0
    assert (ranges[-1] or (0, 0))[1] == 100
    assert len(pieces) == 14
    assert {len(piece.slices) for piece in pieces} == {1}


def test_a_part_of_two_rounds_is_not_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", rows(0, 2000), group_rows=100)
    assert cut(part_of(0, slice_of(path)), tmp_path, Csv(), seen(1000), numbered()) == ()


def test_what_has_one_row_group_or_can_only_be_read_from_its_begin_is_not_cut(
    tmp_path: Path,
) -> None:
    for name, how in {
        "a.parquet": Csv(),
        "a.jsonl.gz": Csv(),
        "a.csv": Csv(multiline=True),
    }.items():
        path = write(tmp_path / name, rows(0, 10_000), group_rows=10_000)
        kind = {"parquet": "parquet", "csv": "csv"}.get(path.suffix[1:], "jsonl")
        part = part_of(0, slice_of(path), format=kind)  # type: ignore[arg-type]
        assert cut(part, tmp_path, how, seen(1000), numbered()) == ()


def test_compressed_files_are_shared_by_their_size(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.jsonl.gz", rows(0, 100)) for n in range(8)]
    part = part_of(0, *map(slice_of, paths), format="jsonl")
    pieces = cut(part, tmp_path, Csv(), seen(100), numbered())
    assert [slice.path for piece in pieces for slice in piece.slices] == list(map(str, paths))
    assert sum(piece.size_bytes for piece in pieces) == part.size_bytes
    assert max(len(piece.slices) for piece in pieces) == 1


def test_lines_with_few_values_are_cut_by_how_many_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", rows(0, 50_000))
    part = part_of(0, slice_of(path), format="csv")
    pieces = cut(part, tmp_path, Csv(), seen(10_000), numbered())
    assert len(pieces) == 7
    assert max(p.size_bytes for p in pieces) < 2 * min(p.size_bytes for p in pieces)


def note(number: int, *pieces: Part) -> Prepared:
    return Prepared(number=number, pieces=pieces, seconds=1.0, worker="w", finished_at_ms=0)


def test_pieces_stand_for_what_was_cut_until_it_is_forgotten(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", rows(0, 3))
    parts = [part_of(n, slice_of(source), format="csv") for n in range(3)]
    manifest = manifest_of(rows(0, 1).schema, parts, backfill_id="b")
    backfill = Backfill(StagingArea(tmp_path), "b")
    backfill.write_manifest(manifest)
    backfill.add_part(note(0))
    first, second = (part_of(n, slice_of(source)) for n in list(piece_numbers(1, 3))[:2])
    backfill.add_part(note(1, first, second))
    third = part_of(piece_numbers(first.number, 3)[0], slice_of(source))
    backfill.add_part(note(first.number, third))

    assert [part.number for part in backfill.parts(manifest)] == [0, third.number, second.number, 2]
    assert [p.number for p in backfill.unprepared(manifest)] == [third.number, second.number, 2]
    backfill.forget_parts()
    assert backfill.parts(manifest) == manifest.parts


def test_the_first_note_of_a_part_decides_whether_it_is_cut(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", rows(0, 3))
    manifest = manifest_of(
        rows(0, 1).schema, [part_of(0, slice_of(source), format="csv")], backfill_id="b"
    )
    backfill = Backfill(StagingArea(tmp_path), "b")
    backfill.write_manifest(manifest)
    backfill.add_part(note(0))
    backfill.add_part(note(0, part_of(1, slice_of(source))))
    assert backfill.parts(manifest) == manifest.parts
    assert backfill.unprepared(manifest) == []


def test_what_was_cut_before_a_resume_is_no_piece_after_it(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", rows(0, 3))
    manifest = manifest_of(
        rows(0, 1).schema, [part_of(0, slice_of(source), format="csv")], backfill_id="b", resumed=1
    )
    backfill = Backfill(StagingArea(tmp_path), "b")
    backfill.write_manifest(manifest)
    backfill.add_part(note(0, part_of(1, slice_of(source))))
    assert backfill.parts(manifest) == manifest.parts


def test_what_cannot_be_pieces_of_a_part_is_refused() -> None:
    part = Part(number=3, format="csv", slices=(), size_bytes=0)
    with pytest.raises(StagedDataMissing, match="part 3"):
        list(parts_after([part], {3: [part]}))
