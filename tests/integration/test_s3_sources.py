"""Which objects of S3 a backfill reads."""

from __future__ import annotations

import pytest

from deltaq.client import InvalidRequest
from deltaq.client.backfill_sources import find_files
from deltaq.tasks.location import parse_location
from deltaq.tasks.s3_path import S3Path
from tests.support.s3 import S3Server


@pytest.fixture
def folder(s3_server: S3Server, s3_url: str) -> S3Path:
    found = parse_location(s3_url, s3_server.options())
    assert isinstance(found, S3Path)
    return found


def test_what_marks_a_folder_is_no_file(folder: S3Path, s3_server: S3Server) -> None:
    client = s3_server.client()
    for mark in ("year=2024", "year=2024/month=1", "v1.0", "empty"):
        client.put_object(Bucket=s3_server.bucket, Key=f"{folder.key}/{mark}/", Body=b"")
    for name in ("year=2024/month=1/a.csv", "v1.0/b.csv"):
        (folder / name).write_bytes(b"n\n1\n")

    assert [str(f.path).removeprefix(f"{folder}/") for f in find_files([folder], near=folder)] == [
        "v1.0/b.csv",
        "year=2024/month=1/a.csv",
    ]
    (found,) = find_files([f"{folder}/*/*/*"], near=folder)
    assert found.values == {"year": "2024", "month": "1"}
    with pytest.raises(InvalidRequest, match="no object is there"):
        find_files([folder / "empty"], near=folder)


def test_a_file_of_no_known_format_is_named(folder: S3Path) -> None:
    (folder / "notes").write_bytes(b"some")

    with pytest.raises(InvalidRequest, match="notes: its ending tells no format"):
        find_files([folder], near=folder)
