"""Rows in files, as the command line reads them."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from deltaq.client.tabular import Format, format_of, open_rows
from deltaq.tasks.errors import InvalidFrame, InvalidRequest


def test_dates_are_dates_in_csv_and_in_json(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("day,at,n\n2024-06-03,2024-06-03T00:00:00,1\n,,\n")
    (tmp_path / "a.jsonl").write_text(
        '{"day": "2024-06-03", "at": "2024-06-03T00:00:00", "n": 1}\n'
        '{"day": null, "at": null, "n": null}\n'
    )
    for name in ("a.csv", "a.jsonl"):
        with open_rows(tmp_path / name, None) as rows:
            assert rows.schema.field("day").type == pa.date32(), name
            assert rows.to_pylist()[0] == {
                "day": date(2024, 6, 3),
                "at": datetime(2024, 6, 3),
                "n": 1,
            }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", Format.CSV),
        ("A.CSV.GZ", Format.CSV),
        ("a.ndjson.zst", Format.JSONL),
        ("a.b.parquet", Format.PARQUET),
    ],
)
def test_a_name_tells_the_format(name: str, kind: Format) -> None:
    assert format_of(Path(name), None) is kind
    assert format_of(Path(name), Format.TABLE) is Format.TABLE


@pytest.mark.parametrize("name", ["a", "a.txt", "a.gz", "-"])
def test_a_name_that_tells_no_format_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="--format"):
        format_of(Path(name), None)


def test_a_file_that_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        (tmp_path / name).write_text("")
        with pytest.raises(InvalidFrame, match=name), open_rows(tmp_path / name, None):
            pass
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    for name in ("a.parquet", "none.csv", "."):
        with (
            pytest.raises(InvalidFrame, match="cannot be read"),
            open_rows(tmp_path / name, None if name != "." else Format.CSV),
        ):
            pass
