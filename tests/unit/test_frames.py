"""From frames of pandas, polars and pyarrow to rows that Delta can hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from deltaq.client.frames import to_rows
from deltaq.client.staging import Staged, stage
from deltaq.tasks.errors import InvalidFrame, RequestIdConflict, StorageUnavailable
from deltaq.tasks.request import Append, Delete, Request
from deltaq.tasks.staging import StagingArea, staged_request

NAIVE, ZONED = pa.timestamp("us"), pa.timestamp("us", tz="UTC")


def rows_of(frame: Any) -> pa.Table:
    rows = to_rows(frame)
    return pa.Table.from_batches(list(rows.batches), schema=rows.schema)


def draft(request_id: str = "r1", **options: Any) -> Append:
    given: dict[str, Any] = {
        "request_id": request_id,
        "table": "prices",
        "client_id": "a" * 32,
        "submitted_at_ms": 1,
        "digest": "",
        "size_bytes": 0,
        "rows": 0,
        "shape": "",
    }
    return Append(**{**given, **options})


KEPT = [
    pa.array([1], pa.int8()),
    pa.array([1], pa.int64()),
    pa.array([1.5], pa.float32()),
    pa.array([True]),
    pa.array(["a"]),
    pa.array([b"a"]),
    pa.array([date(2024, 1, 1)]),
    pa.array([Decimal("1.5")], pa.decimal128(38, 18)),
    pa.array([1], NAIVE),
    pa.array([1], ZONED),
    pa.nulls(1),
    pa.array([[1]], pa.list_(pa.int32())),
    pa.array([{"a": 1}], pa.struct([("a", pa.int32())])),
    pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32())),
]


@pytest.mark.parametrize("column", KEPT, ids=lambda c: str(c.type))
def test_types_of_delta_are_kept(column: pa.Array) -> None:
    assert rows_of(pa.table({"x": column})).equals(pa.table({"x": column}))


CHANGED = [
    (pa.array([255], pa.uint8()), pa.array([255], pa.int16())),
    (pa.array([65535], pa.uint16()), pa.array([65535], pa.int32())),
    (pa.array([2**32 - 1], pa.uint32()), pa.array([2**32 - 1], pa.int64())),
    (pa.array([2**63 - 1], pa.uint64()), pa.array([2**63 - 1], pa.int64())),
    (pa.array([5], pa.timestamp("s")), pa.array([5_000_000], NAIVE)),
    (pa.array([5000], pa.timestamp("ns")), pa.array([5], NAIVE)),
    (pa.array([5000], pa.timestamp("ns", "Europe/Berlin")), pa.array([5], ZONED)),
    (pa.array(["a"], pa.large_string()), pa.array(["a"])),
    (pa.array(["a"], pa.string_view()), pa.array(["a"])),
    (pa.array([b"a"], pa.binary(1)), pa.array([b"a"])),
    (pa.array(["a", None, "a"]).dictionary_encode(), pa.array(["a", None, "a"])),
    (pc.run_end_encode(pa.array(["a", "a", "b"])), pa.array(["a", "a", "b"])),
    (pa.array([86_400_000], pa.date64()), pa.array([date(1970, 1, 2)])),
    (pa.array([Decimal("1.5")], pa.decimal32(5, 2)), pa.array([Decimal("1.5")], pa.decimal128(5, 2))),
    (pa.array([[1]], pa.large_list(pa.uint8())), pa.array([[1]], pa.list_(pa.int16()))),
    (pa.array([{"a": 1}], pa.struct([("a", pa.uint8())])), pa.array([{"a": 1}], pa.struct([("a", pa.int16())]))),
    (pa.array([[("a", 1)]], pa.map_(pa.large_string(), pa.uint8())), pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int16()))),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), CHANGED, ids=lambda c: str(c.type))
def test_other_types_become_types_of_delta_without_loss(
    given: pa.Array, expected: pa.Array
) -> None:
    assert rows_of(pa.table({"x": given})).equals(pa.table({"x": expected}))


REFUSED = [
    (pa.array([1], pa.duration("us")), "duration.*seconds as float64"),
    (pa.array([time(1)], pa.time64("us")), "time64.*store text"),
    (pa.array([1.0], pa.float16()), "halffloat.*cast it to float32"),
    (pa.array([Decimal(1)], pa.decimal256(50, 0)), "decimal256.*38 digits"),
    (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "interval"),
    (pa.array([b"a" * 16], pa.uuid()), "uuid"),
    (pa.array([[timedelta(1)]]), "list<item: duration.*seconds as float64"),
    (pa.array([{"a": 1, "A": 2}]), "struct.*'a', 'A'"),
    (pa.array([1500], pa.timestamp("ns")), "nanoseconds.*dt.floor"),
    (pa.array([[1500]], pa.list_(pa.timestamp("ns"))), "nanoseconds.*dt.floor"),
    (pa.array([2**63], pa.uint64()), r"over 2\*\*63-1.*decimal"),
    (pa.array([2**62], pa.timestamp("s")), "without loss"),
]


@pytest.mark.parametrize(("column", "message"), REFUSED, ids=lambda c: str(getattr(c, "type", "")))
def test_what_delta_cannot_hold_is_refused_and_named(column: pa.Array, message: str) -> None:
    with pytest.raises(InvalidFrame, match=f"column 'x' .*{message}") as caught:
        rows_of(pa.table({"y": pa.array([1]), "x": column}))
    assert caught.value.details == {"column": "x"}


def test_names_that_delta_cannot_tell_apart_are_refused() -> None:
    for names in (["a", "a"], ["a", "b", "A"]):
        with pytest.raises(InvalidFrame, match="'a'"):
            to_rows(pa.Table.from_arrays([pa.array([1])] * len(names), names=names))
    with pytest.raises(InvalidFrame, match="empty name"):
        to_rows(pa.table({"": [1]}))
    with pytest.raises(InvalidFrame, match="no columns"):
        to_rows(pd.DataFrame())


def test_a_frame_of_pandas_comes_as_it_is_meant() -> None:
    frame = pd.DataFrame(
        {
            "text": ["a", None],
            "kind": pd.Categorical(["u", "v"]),
            "at": pd.DatetimeIndex(["2024-01-01", pd.NaT], tz="Europe/Berlin"),
            "price": [1.5, float("nan")],
            "count": pd.array([1, None], dtype="Int64"),
            "day": [date(2024, 1, 1), None],
            "data": [b"a", None],
            "list": [[1, 2], None],
        }
    )
    rows = rows_of(frame)
    assert rows.schema.metadata is None
    assert rows.to_pydict() == {
        "text": ["a", None],
        "kind": ["u", "v"],
        "at": [datetime(2023, 12, 31, 23, tzinfo=UTC), None],
        "price": [1.5, None],
        "count": [1, None],
        "day": [date(2024, 1, 1), None],
        "data": [b"a", None],
        "list": [[1, 2], None],
    }


def test_row_numbers_of_pandas_are_no_data_but_other_indexes_are() -> None:
    frame = pd.DataFrame({"x": [1, 2, 3]})
    assert rows_of(frame[frame["x"] > 1]).to_pydict() == {"x": [2, 3]}
    by_day = frame.set_index(pd.date_range("2024-01-01", periods=3, name="day"))
    for indexed in (by_day, frame.set_index("x", drop=False), frame.set_axis(list("abc"))):
        with pytest.raises(InvalidFrame, match=r"reset_index\(\)"):
            to_rows(indexed)
    assert rows_of(by_day.reset_index()).column_names == ["day", "x"]


def test_columns_of_pandas_that_are_no_columns_are_named() -> None:
    refused: list[tuple[Any, str]] = [
        (pd.DataFrame({"y": [1, 2], "x": [1, "a"]}), "column 'x'"),
        (pd.DataFrame({"x": [object()]}), "column 'x'"),
        (pd.DataFrame({"x": [1j]}), "column 'x'"),
        (pd.DataFrame({"x": pd.to_timedelta([1], unit="s")}), "column 'x'.*duration"),
        (pd.DataFrame({"x": pd.period_range("2024", periods=1, freq="M")}), "column 'x'"),
        (pd.DataFrame({"x": pd.interval_range(0, 1)}), "column 'x'"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "'x', 'x'"),
        (pd.DataFrame([[1]], columns=[7]), "label 7 is no text"),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "label"),
    ]
    for frame, message in refused:
        with pytest.raises(InvalidFrame, match=message):
            rows_of(frame)


def test_a_frame_of_polars_comes_as_it_is_meant() -> None:
    frame = pl.DataFrame(
        {"text": ["a", None], "at": [datetime(2024, 1, 1), None], "n": [1, 2]},
        schema_overrides={"n": pl.UInt64},
    ).with_columns(pl.col("text").cast(pl.Categorical).alias("kind"), pl.lit(None).alias("none"))
    rows = rows_of(frame)
    assert rows.schema.types == [pa.string(), NAIVE, pa.int64(), pa.string(), pa.null()]
    assert rows.to_pydict()["kind"] == ["a", None]


def test_columns_of_polars_that_are_no_columns_are_refused() -> None:
    with pytest.raises(InvalidFrame, match=r"column 'x'.*Python objects"):
        to_rows(pl.DataFrame({"x": [object()]}))
    with pytest.raises(InvalidFrame, match=r"column 'x'.*duration"):
        to_rows(pl.DataFrame({"x": [timedelta(1)]}))
    with pytest.raises(InvalidFrame, match=r"call collect\(\)"):
        to_rows(pl.LazyFrame({"x": [1]}))


def test_what_is_no_frame_is_refused() -> None:
    for thing in (None, [{"a": 1}], {"a": [1]}, "a"):
        with pytest.raises(InvalidFrame, match=f"^{type(thing).__name__} is no frame"):
            to_rows(thing)


def test_pandas_and_polars_are_not_imported_for_frames_of_pyarrow() -> None:
    code = (
        "import sys, pyarrow as pa; from deltaq.client.frames import to_rows;"
        # Not pa.array([1]): that itself looks for pandas.
        "frame = pa.Table.from_arrays([pa.nulls(1)], names=['x']); list(to_rows(frame).batches);"
        "sys.exit(bool({'pandas', 'polars'} & set(sys.modules)))"
    )
    assert _run(code) == 0


def test_importing_the_client_does_not_import_what_is_slow() -> None:
    code = (
        "import sys, deltaq.client;"
        "slow = {'celery', 'kombu', 'pandas', 'polars', 'pyspark', 'deltalake', 'rich'};"
        "sys.exit(', '.join(slow & set(sys.modules)) or 0)"
    )
    assert _run(code) == 0


def _run(code: str) -> int:
    path = ":".join(p for p in sys.path if p)
    return subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}).returncode


def test_a_reader_is_consumed_batch_by_batch_and_staged_as_one_row_group(tmp_path: Path) -> None:
    schema = pa.schema([("x", pa.uint8())])

    def batches() -> Iterator[pa.RecordBatch]:
        for i in range(50):
            yield pa.record_batch([pa.array([i], pa.uint8())], schema=schema)

    area = StagingArea(tmp_path)
    stage(area, draft(), to_rows(pa.RecordBatchReader.from_batches(schema, batches())))
    with pq.ParquetFile(area.request_path("prices", "r1")) as file:
        assert (file.num_row_groups, file.read().column("x").to_pylist()) == (1, list(range(50)))


def test_a_value_refused_midway_leaves_no_file(tmp_path: Path) -> None:
    schema = pa.schema([("x", pa.uint64())])
    reader = pa.RecordBatchReader.from_batches(
        schema, (pa.record_batch([pa.array([n], pa.uint64())], schema) for n in (1, 2**63))
    )
    with pytest.raises(InvalidFrame, match="column 'x'"):
        stage(StagingArea(tmp_path), draft(), to_rows(reader))
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == []


ROWS = pa.table({"x": [1, 2, None], "y": ["a", "b", "c"]})


def staged(
    tmp_path: Path, request_id: str, frame: Any = ROWS, request: Request | None = None
) -> Staged:
    return stage(StagingArea(tmp_path), request or draft(request_id), to_rows(frame))


def test_the_request_in_the_footer_is_the_one_that_is_submitted(tmp_path: Path) -> None:
    result = staged(tmp_path, "r1")
    path = StagingArea(tmp_path).request_path("prices", "r1")
    assert staged_request(path) == result.request
    assert isinstance(result.request, Append)
    assert result.request.rows == 3
    assert 0 < result.request.size_bytes < path.stat().st_size
    assert pq.read_table(path).replace_schema_metadata(None).equals(ROWS)


def test_the_digest_tells_content_apart_and_nothing_else(tmp_path: Path) -> None:
    def digest(request_id: str, frame: Any = ROWS, **options: Any) -> str:
        return staged(tmp_path, request_id, frame, draft(request_id, **options)).request.digest

    first = digest("a")
    assert digest("b", client_id="b" * 32, submitted_at_ms=2) == first
    others = {
        digest("c", ROWS.set_column(1, "y", pa.array(["a", "b", "d"]))),
        digest("d", ROWS.set_column(0, "x", pa.array([1, 2, 3]))),
        digest("e", ROWS.rename_columns(["x", "z"])),
        digest("f", ROWS.slice(0, 2)),
        digest("g", partition_by=("x",)),
        digest("h", engine="spark"),
    }
    assert len(others | {first}) == 7


def test_the_shape_tells_which_requests_have_the_same_columns(tmp_path: Path) -> None:
    def shape(request_id: str, frame: Any) -> str:
        request = staged(tmp_path, request_id, frame).request
        assert isinstance(request, Append)
        return request.shape

    assert shape("a", ROWS) == shape("b", ROWS.slice(1))
    assert shape("c", ROWS.select(["y", "x"])) != shape("d", ROWS)


def test_a_delete_is_staged_without_columns(tmp_path: Path) -> None:
    request = Delete(
        request_id="r1",
        table="prices",
        client_id="a" * 32,
        submitted_at_ms=1,
        digest="",
        size_bytes=0,
        where="x > 1",
    )
    result = stage(StagingArea(tmp_path), request, None)
    path = StagingArea(tmp_path).request_path("prices", "r1")
    assert staged_request(path) == result.request
    assert pq.read_schema(path).names == []


def test_a_file_that_is_there_is_reused_or_a_conflict(tmp_path: Path) -> None:
    first = staged(tmp_path, "r1")
    again = staged(tmp_path, "r1", request=draft("r1", client_id="b" * 32, submitted_at_ms=9))
    assert (first.created, again.created) == (True, False)
    # It is the first one, with whom to tell replaced.
    assert (again.request.submitted_at_ms, again.request.client_id) == (1, "b" * 32)
    with pytest.raises(RequestIdConflict, match="r1"):
        staged(tmp_path, "r1", ROWS.slice(1))


def test_a_staging_area_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "requests").write_text("in the way")
    with pytest.raises(StorageUnavailable, match="cannot be staged"):
        staged(tmp_path, "r1")
