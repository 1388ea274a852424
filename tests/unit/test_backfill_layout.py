"""Which files rows become, what they are called and what their statistics say."""

from __future__ import annotations

import json
import math
import resource
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaq.tasks.batches import gather
from deltaq.tasks.errors import InvalidFrame
from deltaq.worker.backfill.layout import Layout
from deltaq.worker.backfill.names import (
    file_name,
    left_behind,
    partition_folder,
    partition_value,
    resumed_of,
    temporary_name,
)
from deltaq.worker.backfill.statistics import file_statistics


def layout(table: Path, **options: Any) -> Layout:
    wanted = {"partition_by": (), "sort_by": (), "target_bytes": 1 << 30, **options}
    wanted.setdefault("work", table / "work")
    return Layout(table, "load-1", 3, **wanted)


def statistics(tmp_path: Path, column: pa.Array) -> dict[str, Any]:
    rows = pa.table({"x": column})
    pq.write_table(rows, tmp_path / "a.parquet")
    text = file_statistics(rows, pq.read_metadata(tmp_path / "a.parquet"))
    found: dict[str, Any] = json.loads(text, parse_float=Decimal)
    return found


def test_rows_are_parted_and_sorted_within_each_file(tmp_path: Path) -> None:
    rows = pa.table({"g": ["b", "a", None, "b", "a"], "n": [5, 4, 3, 2, 1]})
    written = layout(tmp_path, partition_by=["g"], sort_by=["n"])
    written.write(rows)
    found = {
        file.partition_values["g"]: pq.read_table(tmp_path / file.path, partitioning=None)
        for file in written.files
    }
    assert {group: rows.to_pydict() for group, rows in found.items()} == {
        "a": {"n": [1, 4]},
        "b": {"n": [2, 5]},
        None: {"n": [3]},
    }
    assert {f.path.split("/")[0] for f in written.files} == {
        "g=a",
        "g=b",
        "g=__HIVE_DEFAULT_PARTITION__",
    }


@settings(deadline=None, max_examples=25)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 2), st.integers()), max_size=30
    )
)
def test_every_row_is_in_the_partition_of_its_values(
    rows: list[tuple[str | None, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("t")
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    frame = pa.table(
        {
            "g": pa.array(columns[0], pa.string()),
            "h": pa.array(columns[1], pa.int64()),
            "n": pa.array([n % 2**60 for n in columns[2]], pa.int64()),
        }
    )
    written = layout(folder, partition_by=["g", "h"])
    if frame.num_rows:
        written.write(frame)
    found = [
        (file.partition_values["g"], int(file.partition_values["h"] or 0), n)
        for file in written.files
        for n in pq.read_table(folder / file.path, partitioning=None).column("n").to_pylist()
    ]
    key = repr
    assert sorted(found, key=key) == sorted(((g, h, n % 2**60) for g, h, n in rows), key=key)


def test_files_end_at_their_size_and_a_second_run_writes_the_same_ones(tmp_path: Path) -> None:
    rows = pa.table({"n": range(3_000_000)})
    names = []
    for _ in range(2):
        written = layout(tmp_path, target_bytes=1 << 20)
        written.write(rows)
        names.append([file.path for file in written.files])
        assert [file.rows for file in written.files] == [1 << 20, 1 << 20, 3_000_000 - (1 << 21)]
    assert names[0] == names[1] == [file_name("load-1", 3, n) for n in range(3)]
    assert {f.name for f in tmp_path.iterdir()} == set(names[0])


def test_two_that_write_the_same_part_do_not_write_into_each_other_s_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pa.table({"n": range(1000)})
    one, other = layout(tmp_path), layout(tmp_path)

    def overtaken(written: Path) -> pq.FileMetaData:
        monkeypatch.undo()
        other.write(rows)
        return pq.read_metadata(written)

    monkeypatch.setattr(pq, "read_metadata", overtaken)
    one.write(rows)

    assert one.files == other.files
    (file,) = tmp_path.iterdir()
    assert pq.read_table(file).equals(rows)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            layout(tmp_path).write(pa.table({"n": range(1000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert list(tmp_path.iterdir()) == []


def test_a_part_that_is_too_large_is_taken_in_rounds(tmp_path: Path) -> None:
    batches = [pa.record_batch({"n": list(range(at, at + 1000))}) for at in range(0, 5000, 1000)]
    rounds = list(gather(iter(batches), 16_000))
    assert [rows.num_rows for rows in rounds] == [2000, 2000, 1000]


def test_what_a_backfill_left_is_told_from_what_another_did(tmp_path: Path) -> None:
    mine = [
        tmp_path / "g=1" / file_name("a", 0, 0),
        tmp_path / file_name("a", 0, 0, resumed=2),
        tmp_path / temporary_name(file_name("a", 1, 0)),
    ]
    others = [tmp_path / file_name("b-a", 0, 0), tmp_path / file_name("a-0", 0, 0)]
    (tmp_path / "g=1").mkdir()
    for file in (*mine, *others, tmp_path / "part-0-c000.parquet"):
        file.touch()
    assert set(left_behind(tmp_path, "a")) == set(mine)
    assert [resumed_of(file.name) for file in mine] == [0, 2, 0]


def test_folders_are_named_as_hive_names_them() -> None:
    values = {"g": "a/b c%=é", "h": None, "i": "2024-01-01 00:00:00"}
    assert partition_folder(values) == (
        "g=a%2Fb c%25%3Dé/h=__HIVE_DEFAULT_PARTITION__/i=2024-01-01 00%3A00%3A00"
    )
    with pytest.raises(InvalidFrame, match="too long"):
        partition_folder({"g": "x" * 300})


def test_partition_values_are_written_as_the_protocol_says() -> None:
    moment = datetime(2024, 1, 1, 1, 2, 3, 45, tzinfo=UTC)
    assert [
        partition_value(moment, pa.timestamp("us", "UTC")),
        partition_value(datetime(2024, 1, 1), pa.timestamp("us")),
        partition_value(date(2024, 1, 1), pa.date32()),
        partition_value(True, pa.bool_()),
        partition_value(-3, pa.int32()),
        partition_value(None, pa.string()),
    ] == ["2024-01-01 01:02:03.000045", "2024-01-01 00:00:00", "2024-01-01", "true", "-3", None]


@pytest.mark.parametrize(
    ("column", "low", "high"),
    [
        (pa.array([3, None, -1]), -1, 3),
        (pa.array([1.5, -0.25]), Decimal("-0.25"), Decimal("1.5")),
        (pa.array([Decimal("1.10"), Decimal("-2.00")]), Decimal("-2.00"), Decimal("1.10")),
        (pa.array(["b", "aé"]), "aé", "b"),
        (pa.array(["a" * 40, "b" * 40]), "a" * 32, "b" * 32 + "\U0010ffff"),
        (pa.array([date(2024, 1, 1), date(1, 1, 1)]), "0001-01-01", "2024-01-01"),
        (
            pa.array([datetime(2024, 1, 1, 0, 0, 0, 1001)], pa.timestamp("us", "UTC")),
            "2024-01-01T00:00:00.001Z",
            "2024-01-01T00:00:00.002Z",
        ),
        (
            pa.array([datetime(2024, 1, 1)], pa.timestamp("us")),
            "2024-01-01T00:00:00.000",
            "2024-01-01T00:00:00.000",
        ),
    ],
)
def test_bounds_hold_all_values(tmp_path: Path, column: pa.Array, low: Any, high: Any) -> None:
    found = statistics(tmp_path, column)
    assert found["minValues"]["x"] == low
    assert found["maxValues"]["x"] == high
    assert found["numRecords"] == len(column)
    assert found["nullCount"]["x"] == column.null_count


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1.0, math.nan]),
        pa.array([1.0, math.inf]),
        pa.array([None, None], pa.int32()),
        pa.array([True, False]),
        pa.array([b"a"]),
        pa.array(["x" * 32 + "\U0010ffff" * 2]),
        pa.array([2**62], pa.timestamp("us", "UTC")),
    ],
    ids=["nan", "infinity", "nulls", "booleans", "bytes", "last character", "far future"],
)
def test_bounds_in_doubt_are_left_out(tmp_path: Path, column: pa.Array) -> None:
    found = statistics(tmp_path, column)
    assert found["minValues"] == found["maxValues"] == {}
    assert found["nullCount"]["x"] == column.null_count
