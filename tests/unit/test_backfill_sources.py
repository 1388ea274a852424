"""Which files a backfill reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deltaq.client.backfill_sources import find_files, folder_values
from deltaq.client.tabular import Format
from deltaq.tasks.errors import InvalidRequest


def made(folder: Path, *names: str, text: str = "a\n1\n") -> list[Path]:
    """Make files, with their folders."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return paths


def test_a_folder_is_read_to_its_bottom_sorted_without_what_is_no_data(tmp_path: Path) -> None:
    made(
        tmp_path, "b.csv", "a/2.parquet", "a/1.jsonl", "_SUCCESS", ".a.csv.crc", "_temporary/x.csv"
    )

    found = find_files([tmp_path])

    assert [f.path.relative_to(tmp_path).as_posix() for f in found] == [
        *("b.csv", "a/1.jsonl", "a/2.parquet")
    ]
    assert [f.format for f in found] == [Format.CSV, Format.JSONL, Format.PARQUET]
    assert {f.size_bytes for f in found} == {4}


def test_a_glob_matches_files_and_folders(tmp_path: Path) -> None:
    made(tmp_path, "2023/x.csv", "2024/x.csv", "2024/deep/y.csv.gz", "other/x.csv")

    for pattern, count in [("2024/*.csv", 1), ("202*", 3), ("**/*.csv*", 4), ("*/[xy].csv", 3)]:
        assert len(find_files([tmp_path / pattern])) == count, pattern


def test_a_file_that_two_sources_name_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, "a.csv", "b.csv")
    monkeypatch.chdir(tmp_path)

    found = find_files(["a.csv", tmp_path, "*.csv"])

    assert [f.path for f in found] == [tmp_path / "a.csv", tmp_path / "b.csv"]


def test_folders_name_columns(tmp_path: Path) -> None:
    path = tmp_path / "x=0" / "plain" / "symbol=A%2FB" / "day=__HIVE_DEFAULT_PARTITION__" / "f.csv"

    assert folder_values(path) == {"symbol": "A/B", "day": None}


def test_a_file_whose_name_has_the_signs_of_a_glob_is_that_file(tmp_path: Path) -> None:
    made(tmp_path, "a[1].csv", "a1.csv")

    assert [f.path.name for f in find_files([tmp_path / "a[1].csv"])] == ["a[1].csv"]


def test_empty_text_is_left_out(tmp_path: Path) -> None:
    made(tmp_path, "a.csv", text="")

    assert find_files([tmp_path / "a.csv"]) == []


def refusal(source: Path | str) -> str:
    with pytest.raises(InvalidRequest) as refused:
        find_files([source])
    return refused.value.message


def test_what_cannot_be_meant_is_refused_and_named(tmp_path: Path) -> None:
    made(tmp_path, "prices.csv", "notes.txt", "table/_delta_log/0.json", "table/p.parquet")
    (tmp_path / "empty").mkdir()

    assert "did you mean 'prices.csv'" in refusal(tmp_path / "price.csv")
    assert "no file matches" in refusal(tmp_path / "*.parquet")
    assert "notes.txt: its ending tells no format" in refusal(tmp_path / "notes.txt")
    assert "no file in it" in refusal(tmp_path / "empty")
    assert "local paths" in refusal("s3://bucket/a.csv")
    for source in (tmp_path / "table", tmp_path / "table" / "*.parquet"):
        assert "it is a Delta table" in refusal(source)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read all folders")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    made(tmp_path, "closed/a.csv")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(Exception, match="closed"):
        find_files([tmp_path])
