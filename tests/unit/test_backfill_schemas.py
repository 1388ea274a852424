"""What columns the files of a backfill have."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaq.client.backfill_samples import SAMPLE_BYTES, SAMPLED_FILES, whole_lines
from deltaq.client.backfill_schemas import Shape, common_schema, read_shapes
from deltaq.client.backfill_sources import find_files
from deltaq.client.backfill_types import text_type, wider_type
from deltaq.tasks.errors import InvalidFrame, SchemaMismatch
from deltaq.tasks.manifest import Csv

INT, LONG, FLOAT, DOUBLE = pa.int32(), pa.int64(), pa.float32(), pa.float64()


def shapes_of(folder: Path, how: Csv | None = None) -> list[Shape]:
    return read_shapes(find_files([folder]), how or Csv())


def columns(folder: Path, **options: Any) -> dict[str, str]:
    return {c.name: c.type for c in common_schema(shapes_of(folder), **options)}


def write(folder: Path, **files: pa.Table | str) -> None:
    for name, content in files.items():
        stem, _, ending = name.rpartition("_")
        path = folder / f"{stem}.{ending}"
        if isinstance(content, str):
            path.write_text(content)
        else:
            pq.write_table(content, path)


def test_types_of_csv_are_guessed_from_all_files_that_are_sampled(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_csv="symbol,price,day,at,open,note\nA,1,2024-01-02,2024-01-02 09:00:00,09:00:00,\n",
        b_csv="symbol,price,day,at,open,note\nB,1.5,2024-01-03,2024-01-03 09:00:00,09:30:00,\n",
    )

    assert columns(tmp_path) == {
        "symbol": "string",
        "price": "double",
        "day": "date",
        "at": "timestamp_ntz",
        "open": "string",
        "note": "string",
    }


def test_what_stands_for_null_and_the_delimiter_are_the_callers(tmp_path: Path) -> None:
    write(tmp_path, a_csv="a;b\n1;NA\nNA;2\n")
    how = Csv(delimiter=";", null_values=("", "NA"))

    assert [str(f.type) for f in shapes_of(tmp_path, how)[0].schema] == ["int64", "int64"]
    assert [str(f.type) for f in shapes_of(tmp_path, Csv(delimiter=";"))[0].schema] == [
        *("string", "string")
    ]


def test_the_middle_and_the_end_of_a_large_file_are_sampled(tmp_path: Path) -> None:
    line = b"1,2\n"
    rows = bytearray(line * (4 * SAMPLE_BYTES // len(line)))
    for place, value in [(len(rows) // 2 + 400, b"x,2\n"), (len(rows) - 400, b"1,y\n")]:
        rows[place : place + 4] = value
    (tmp_path / "a.csv").write_bytes(b"a,b\n" + rows)

    assert columns(tmp_path) == {"a": "string", "b": "string"}


def test_values_that_go_over_lines_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, a_csv='a,"b\n2"\n1,x\n', b_csv='a,"b\n2"\n1,"x ""1"" and\ny"\n')

    assert [(s.schema.names, s.multiline) for s in shapes_of(tmp_path)] == [
        (["a", "b\n2"], False),
        (["a", "b\n2"], True),
    ]


def test_compressed_text_and_json_lines_are_sampled_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2024-01-02\n"))
    write(tmp_path, b_jsonl='{"a": 1.5, "b": "2024-01-02"}\n')

    assert columns(tmp_path) == {"a": "double", "b": "date"}


def test_of_many_files_some_are_sampled_and_the_headers_of_all_are_read(tmp_path: Path) -> None:
    for number in range(3 * SAMPLED_FILES):
        (tmp_path / f"{number:04}.csv").write_text("a\n1\n")
    (tmp_path / "0001.csv").write_text("a,b\n1,2\n")

    with pytest.raises(SchemaMismatch, match=r"0000\.csv: column 'b' is missing.*0001\.csv"):
        columns(tmp_path)


def test_folders_give_columns_unless_the_file_has_them(tmp_path: Path) -> None:
    for day, text in [("2024-01-01", "a\n1\n"), ("2024-01-02", "a,day\n1,2024-01-09\n")]:
        folder = tmp_path / f"day={day}" / "group=007"
        folder.mkdir(parents=True)
        (folder / "x.csv").write_text(text)

    shapes = shapes_of(tmp_path)

    assert columns(tmp_path) == {"a": "bigint", "day": "date", "group": "bigint"}
    assert [s.values for s in shapes] == [{"day": "2024-01-01", "group": "007"}, {"group": "007"}]


def test_parquet_of_other_types_needs_schema_mode_merge(tmp_path: Path) -> None:
    write(tmp_path, a_parquet=pa.table({"n": pa.array([1], INT)}), b_parquet=pa.table({"n": [1]}))

    with pytest.raises(SchemaMismatch, match=r"b\.parquet: column 'n' is int64, and int32 in"):
        columns(tmp_path)
    assert columns(tmp_path, widen=True) == {"n": "bigint"}


def test_a_column_that_a_file_lacks_needs_schema_mode_merge(tmp_path: Path) -> None:
    strict = pa.schema([pa.field("b", LONG, nullable=False)])
    write(tmp_path, a_parquet=pa.table({"b": [1]}, schema=strict), c_parquet=pa.table({"c": [1]}))

    with pytest.raises(SchemaMismatch, match=r"c\.parquet: column 'b' is missing, which .*a\.parq"):
        columns(tmp_path)
    found = common_schema(shapes_of(tmp_path), widen=True)
    assert [(c.name, c.nullable) for c in found] == [("b", True), ("c", True)]


def test_types_without_a_common_one_are_refused_with_file_and_column(tmp_path: Path) -> None:
    write(tmp_path, a_parquet=pa.table({"n": ["x"]}), b_parquet=pa.table({"n": [1]}))

    with pytest.raises(SchemaMismatch) as refused:
        columns(tmp_path, widen=True)
    assert refused.value.details == {"path": str(tmp_path / "b.parquet"), "column": "n"}


def test_names_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    write(tmp_path, a_parquet=pa.table({"n": [1]}), b_parquet=pa.table({"N": [1]}))

    with pytest.raises(SchemaMismatch, match=r"b\.parquet: column 'N' is 'n' in"):
        columns(tmp_path, widen=True)


def test_a_table_tells_the_types_that_text_does_not(tmp_path: Path) -> None:
    write(tmp_path, a_csv="n,new\n1,2\n")
    table = [{"name": "n", "type": "decimal(10,2)"}]

    with pytest.raises(SchemaMismatch, match=r"table prices has no column 'new'"):
        columns(tmp_path, table=table, name="prices")
    assert columns(tmp_path, table=table, widen=True) == {"n": "decimal(10,2)", "new": "bigint"}


def test_the_schema_of_the_caller_holds_and_misses_nothing(tmp_path: Path) -> None:
    write(tmp_path, a_csv="price\n1\n")

    assert columns(tmp_path, schema={"price": "decimal(10, 2)", "day": "date"}) == {
        "price": "decimal(10, 2)",
        "day": "date",
    }
    with pytest.raises(SchemaMismatch, match=r"no column .price. .did you mean .prices."):
        columns(tmp_path, schema={"prices": "double"})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"PAR1 and nothing more"),
        ("a.parquet", b""),
        ("a.csv", b"a,b\n1,2\n1,2,3\n"),
        ("a.csv", b"a,a\n1,2\n"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n'),
        ("a.csv.gz", b"no gzip"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InvalidFrame, match=name):
        shapes_of(tmp_path)


def test_a_type_that_delta_lacks_is_named_with_its_file(tmp_path: Path) -> None:
    write(tmp_path, a_parquet=pa.table({"t": pa.array([1], pa.time64("us"))}))

    with pytest.raises(InvalidFrame, match=r"a\.parquet: column 't'"):
        shapes_of(tmp_path)


NUMBERS = st.sampled_from([pa.int8(), pa.int16(), INT, LONG, FLOAT, DOUBLE])
TYPES = NUMBERS | st.sampled_from([pa.string(), pa.date32(), pa.timestamp("us"), pa.null()])


@given(NUMBERS, NUMBERS)
def test_the_wider_type_holds_the_values_of_both(one: pa.DataType, other: pa.DataType) -> None:
    wider = wider_type(one, other)

    assert wider == wider_type(other, one)
    for kind in (one, other):
        if wider is not None and pa.types.is_integer(kind):
            most = pa.scalar((1 << (kind.bit_width - 1)) - 1, kind)
            assert most.cast(wider).as_py() == most.as_py()


def test_digits_of_both_decimals_have_room() -> None:
    assert wider_type(pa.decimal128(10, 2), pa.decimal128(5, 4)) == pa.decimal128(12, 4)
    assert wider_type(pa.decimal128(38, 0), pa.decimal128(5, 4)) is None


@given(TYPES, TYPES)
def test_text_always_has_a_type(one: pa.DataType, other: pa.DataType) -> None:
    assert text_type(one, other) == text_type(other, one)


@given(st.lists(st.sampled_from([b'"', b"\n", b"a", b","])).map(b"".join))
def test_text_is_cut_at_the_last_line_break_outside_of_quotes(text: bytes) -> None:
    cut = whole_lines(text)

    assert text.startswith(cut)
    assert not cut or (cut.endswith(b"\n") and cut[:-1].count(b'"') % 2 == 0)
    rest = text[len(cut) :]
    assert not any(
        rest[at : at + 1] == b"\n" and text[: len(cut) + at].count(b'"') % 2 == 0
        for at in range(len(rest))
    )
