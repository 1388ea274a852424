"""How the files of a backfill are cut into parts: all of each file, and nothing twice."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaq.client.backfill_plan import PART_BYTES, plan_parts
from deltaq.client.backfill_schemas import Shape
from deltaq.client.backfill_sources import SourceFile
from deltaq.client.tabular import Format
from deltaq.tasks.errors import InvalidRequest
from deltaq.tasks.manifest import Part, Slice

SCHEMA = pa.schema([("a", pa.int64())])
MiB = 1 << 20


def shape(name: str, size: int, groups: tuple[int, ...] = ()) -> Shape:
    kind = Format.PARQUET if groups or name.endswith("parquet") else Format(name.split(".")[1])
    file = SourceFile(path=Path("/in") / name, format=kind, size_bytes=size)
    return Shape(file=file, schema=SCHEMA, group_bytes=groups)


@st.composite
def some_shapes(draw: st.DrawFn) -> list[Shape]:
    made = []
    for number in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["parquet", "csv", "jsonl", "csv.gz", "jsonl.zst"]))
        size = draw(st.integers(1, 40)) * draw(st.sampled_from([1, 4096, MiB, 16 * MiB]))
        groups = draw(st.lists(st.integers(0, size), max_size=20)) if kind == "parquet" else []
        made.append(shape(f"{number}.{kind}", size, tuple(groups)))
    return made


def slices_by_file(parts: tuple[Part, ...]) -> dict[str, list[Slice]]:
    found: dict[str, list[Slice]] = defaultdict(list)
    for part in parts:
        for piece in part.slices:
            found[piece.path].append(piece)
    return found


def covered(pieces: list[Slice], whole: int, kind: str) -> list[int]:
    """List the row groups or the ends of the ranges, in order, that pieces cover."""
    ranges = [getattr(piece, kind) or (0, whole) for piece in pieces]
    stops = [stop for _, stop in ranges]
    assert [start for start, _ in ranges] == [0, *stops][: len(stops)]
    assert all(start < stop for start, stop in ranges)
    return stops


@given(some_shapes(), st.none() | st.integers(1, 50), st.booleans())
def test_parts_cover_every_row_group_and_byte_exactly_once(
    shapes: list[Shape], wanted: int | None, multiline: bool
) -> None:
    parts = plan_parts(shapes, parts=wanted, multiline=multiline)

    found = slices_by_file(parts)
    for one in shapes:
        pieces = found.pop(str(one.file.path), [])
        if one.file.format is Format.PARQUET:
            groups = len(one.group_bytes)
            assert (covered(pieces, groups, "row_groups") or [0])[-1] == groups
            assert all(piece.byte_range is None for piece in pieces)
        else:
            assert covered(pieces, one.file.size_bytes, "byte_range")[-1] == one.file.size_bytes
            uncut = one.file.compressed or (multiline and one.file.format is Format.CSV)
            assert not uncut or len(pieces) == 1
        assert {piece.file_bytes for piece in pieces} <= {one.file.size_bytes}
    assert not found
    assert [part.number for part in parts] == list(range(len(parts)))


@given(some_shapes(), st.integers(1, 50))
def test_there_are_about_as_many_parts_as_asked_for(shapes: list[Shape], wanted: int) -> None:
    # One more for each change of format, and where row groups are larger than the files say.
    changes = len(shapes)
    groups = sum(len(one.group_bytes) for one in shapes)

    assert len(plan_parts(shapes, parts=wanted)) <= wanted + changes + groups


@given(some_shapes())
def test_a_part_is_of_one_format(shapes: list[Shape]) -> None:
    endings = {"parquet": ("parquet",), "csv": ("csv", "csv.gz"), "jsonl": ("jsonl", "jsonl.zst")}
    for part in plan_parts(shapes):
        assert all(piece.path.endswith(endings[part.format]) for piece in part.slices)


def test_a_large_file_is_cut_into_parts_of_the_usual_size() -> None:
    parts = plan_parts([shape("a.csv", 20 * PART_BYTES)])

    assert [part.size_bytes for part in parts] == 20 * [PART_BYTES]


def test_little_work_is_shared_and_very_little_is_not() -> None:
    assert len(plan_parts([shape("a.csv", 256 * MiB)])) == 16
    assert len(plan_parts([shape("a.csv", 8 * MiB)])) == 1


def test_many_small_files_share_a_part() -> None:
    parts = plan_parts([shape(f"{n}.csv", 1000) for n in range(10_000)])

    assert 2 <= len(parts) <= 20
    assert max(len(part.slices) for part in parts) < 2000


def test_a_parquet_file_is_cut_between_row_groups() -> None:
    (first, second) = plan_parts(
        [shape("a.parquet", 120 * MiB, (40 * MiB, 30 * MiB, 50 * MiB))], parts=2
    )

    assert first.slices[0].row_groups == (0, 2)
    assert second.slices[0].row_groups == (2, 3)


def test_row_groups_whose_rows_take_much_memory_are_in_more_parts() -> None:
    file = SourceFile(path=Path("/in/a.parquet"), format=Format.PARQUET, size_bytes=MiB)
    shape = Shape(
        file=file, schema=SCHEMA, group_bytes=400 * (1000,), group_memory=400 * (48 * MiB,)
    )
    parts = plan_parts([shape])

    assert [part.slices[0].row_groups for part in parts] == [(n, n + 4) for n in range(0, 400, 4)]
    assert {part.size_bytes for part in parts} == {4000}


def test_what_is_in_the_backfills_folder_is_named_relative_to_it() -> None:
    (part,) = plan_parts([shape("uploads/a.csv", 10)], folder=Path("/in"))

    assert part.slices[0].path == "uploads/a.csv"


@pytest.mark.parametrize("parts", [0, -1, 1.5])
def test_parts_is_a_whole_number_above_0(parts: int) -> None:
    with pytest.raises(InvalidRequest, match="parts"):
        plan_parts([shape("a.csv", 10)], parts=parts)
