"""What is read from the sources of a backfill, and what is said of bad ones."""

from __future__ import annotations

import csv
import io
import itertools
import tempfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaq.tasks.errors import DeltaqError, SchemaMismatch, StagedDataMissing
from deltaq.tasks.manifest import Csv, Format, Slice
from deltaq.worker.backfill.lines import Lines, whole_lines
from deltaq.worker.backfill.sources import PartReader
from tests.support.backfills import part_of, slice_of

SCHEMA = pa.schema([("n", pa.int64()), ("word", pa.string()), ("price", pa.float64())])


def read(*slices: Slice, format: Format, schema: pa.Schema = SCHEMA, **csv: object) -> pa.Table:
    part = part_of(0, *slices, format=format)
    how = Csv(**csv)  # type: ignore[arg-type]
    reader = PartReader(part, Path("/"), schema, how, allowed=[Path("/")], table="prices")
    batches = reader.batches()
    return pa.Table.from_batches(batches, schema=schema)


def refusal(
    *slices: Slice, format: Format, schema: pa.Schema = SCHEMA, **csv: object
) -> DeltaqError:
    with pytest.raises(DeltaqError) as caught:
        read(*slices, format=format, schema=schema, **csv)
    return caught.value


@settings(deadline=None, max_examples=60)
@given(
    text=st.binary(max_size=60).map(lambda raw: bytes(b'ab\n\r,"'[byte % 6] for byte in raw)),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    body=st.integers(0, 10),
)
def test_ranges_of_any_text_are_its_lines_once_and_whole(
    text: bytes, cuts: list[int], body: int
) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        path = Path(file.name)
        header = whole_lines(path, 0, min(body, len(text))).stop
        edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
        found = [
            whole_lines(path, start, stop, body=header) for start, stop in itertools.pairwise(edges)
        ]

        pieces = []
        for lines in found:
            with lines.open() as part:
                pieces.append(part.read())

    assert b"".join(pieces) == text[header:]
    for piece in pieces[:-1]:
        assert piece == b"" or piece.endswith(b"\n") or text[header:].endswith(piece)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1),
            st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"), max_size=8),
        ),
        min_size=1,
        max_size=20,
    ),
    cuts=st.lists(st.integers(0, 300), max_size=4),
)
def test_the_rows_of_a_csv_are_the_same_however_it_is_cut(
    rows: list[tuple[int, str]], cuts: list[int]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows([("n", "word"), *rows])
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(text.getvalue().encode())
        file.flush()
        path = Path(file.name)
        size = path.stat().st_size
        edges = sorted({0, size, *(cut for cut in cuts if cut < size)})
        found = read(
            *(slice_of(path, byte_range=r) for r in itertools.pairwise(edges)),
            format="csv",
            schema=pa.schema([("n", pa.int64()), ("word", pa.string())]),
        )
    assert list(zip(*found.to_pydict().values(), strict=True)) == rows


def test_csv_is_parsed_into_the_types_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "amount,day,at,here,flag,text,lone\n"
        '1.50,2024-02-29,2024-01-01T00:00:00Z,2024-01-01 00:00:00,true,"",\n'
        ",,,,,,5\n"
    )
    schema = pa.schema(
        [
            ("amount", pa.decimal128(10, 2)),
            ("day", pa.date32()),
            ("at", pa.timestamp("us", "UTC")),
            ("here", pa.timestamp("us")),
            ("flag", pa.bool_()),
            ("text", pa.string()),
            ("lone", pa.int8()),
            ("absent", pa.string()),
        ]
    )
    first, second = read(slice_of(path), format="csv", schema=schema).to_pylist()
    assert first == {
        "amount": Decimal("1.50"),
        "day": date(2024, 2, 29),
        "at": datetime(2024, 1, 1, tzinfo=UTC),
        "here": datetime(2024, 1, 1),
        "flag": True,
        "text": "",
        "lone": None,
        "absent": None,
    }
    assert {value for name, value in second.items() if name != "lone"} == {None}


def test_times_without_a_zone_are_utc_where_the_table_has_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("at\n2024-01-01 00:00:00\n")
    schema = pa.schema([("at", pa.timestamp("us", "UTC"))])
    found = read(slice_of(path), format="csv", schema=schema)
    assert found.to_pylist() == [{"at": datetime(2024, 1, 1, tzinfo=UTC)}]


def test_quoted_lines_are_read_whole_and_refused_where_they_might_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('n,word,price\n1,"a\nb",2\n')
    whole = read(slice_of(path), format="csv", multiline=True)
    assert whole.to_pylist() == [{"n": 1, "word": "a\nb", "price": 2.0}]

    middle = path.read_text().index("b")
    cut = [slice_of(path, byte_range=r) for r in ((0, middle), (middle, 22))]
    assert "multiline=True" in refusal(*cut, format="csv").message


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_bad_value_is_named_with_its_file_and_line(tmp_path: Path, format: Format) -> None:
    path = tmp_path / f"a.{format}"
    lines = [
        f'{{"n": {i}, "word": "w", "price": 1.5}}\n' if format == "jsonl" else f"{i},w,1.5\n"
        for i in range(1000)
    ]
    lines[700] = lines[700].replace("1.5", '"cheap"')
    header = "n,word,price\n" if format == "csv" else ""
    path.write_text(header + "".join(lines))
    half = path.stat().st_size // 2
    wrong = slice_of(path, byte_range=(half, path.stat().st_size))

    error = refusal(wrong, format=format)

    assert isinstance(error, SchemaMismatch)
    assert error.details["line"] == 701 + bool(header)
    assert error.details["file"] == str(path)
    assert f"{path}: line {701 + bool(header)}: " in error.message


def test_columns_that_the_backfill_does_not_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,colour\n1,red\n")
    assert "'colour'" in refusal(slice_of(path), format="csv").message


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = pa.table({"n": range(3000)})
    pq.write_table(rows, path, row_group_size=1000, use_dictionary=False, compression="snappy")
    place = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[place + 40 : place + 400] = bytes(360)
    path.write_bytes(content)

    good = read(slice_of(path, row_groups=(2, 3)), format="parquet", schema=rows.schema)
    assert good.column("n").to_pylist() == list(range(2000, 3000))
    error = refusal(slice_of(path), format="parquet", schema=rows.schema)
    assert isinstance(error, StagedDataMissing)
    assert f"{path}: row group 1: " in error.message


def test_a_file_that_changed_since_it_was_planned_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,word,price\n1,a,2\n")
    planned = slice_of(path)
    path.write_text("n,word,price\n1,a,2\n2,b,3\n")
    assert "when the backfill was planned" in refusal(planned, format="csv").message


def test_spark_s_old_timestamps_are_utc_and_any_year(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    moment = datetime(2900, 1, 1)
    rows = pa.table({"at": pa.array([moment], pa.timestamp("us"))})
    pq.write_table(rows, path, use_deprecated_int96_timestamps=True)
    schema = pa.schema([("at", pa.timestamp("us", "UTC"))])
    found = read(slice_of(path), format="parquet", schema=schema)
    assert found.to_pylist() == [{"at": moment.replace(tzinfo=UTC)}]


def test_json_lines_give_dates_decimals_and_nested_values(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"day": "2024-02-29", "sum": "1.50", "s": {"x": 1}}\n{"s": null}\n')
    schema = pa.schema(
        [
            ("day", pa.date32()),
            ("sum", pa.decimal128(10, 2)),
            ("s", pa.struct([("x", pa.int32())])),
        ]
    )
    assert read(slice_of(path), format="jsonl", schema=schema).to_pylist() == [
        {"day": date(2024, 2, 29), "sum": Decimal("1.50"), "s": {"x": 1}},
        {"day": None, "sum": None, "s": None},
    ]


def test_lines_are_halved_down_to_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1\n22222222222222222222222222\n3\n")
    lines = Lines(path, 0, path.stat().st_size)
    first, second = lines.split() or pytest.fail("not split")
    assert (first.stop, second.start) == (second.start, first.stop)
    assert Lines(path, 0, 2).split() is None


def test_columns_that_only_the_path_tells_are_the_same_in_all_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n\n1\n2\n")
    values = {"day": "2024-01-01", "at": "2024-01-01 00:00:00", "g": None, "flag": "true"}
    schema = pa.schema(
        [
            ("day", pa.date32()),
            ("n", pa.int64()),
            ("at", pa.timestamp("us", "UTC")),
            ("g", pa.string()),
            ("flag", pa.bool_()),
        ]
    )
    rows = read(slice_of(path, values=values), format="csv", schema=schema).to_pylist()
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    same = {"day": date(2024, 1, 1), "at": moment, "g": None, "flag": True}
    assert rows == [{**same, "n": 1}, {**same, "n": 2}]

    wrong = refusal(slice_of(path, values={"day": "today"}), format="csv", schema=schema)
    assert "'day'" in wrong.message
