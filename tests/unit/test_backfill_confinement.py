"""A backfill reads what its client uploaded and what workers may load, whatever its manifest says."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaq.tasks.errors import DeltaqError, InvalidRequest, StagedDataMissing
from deltaq.tasks.location import Location
from deltaq.tasks.manifest import Csv, Slice
from deltaq.tasks.s3 import Bucket, S3Options
from deltaq.tasks.s3_path import S3Path
from deltaq.worker.backfill.confinement import check_sources, source_path
from deltaq.worker.backfill.sources import PartReader
from tests.support.backfills import part_of


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make a backfill's folder, one to load from, and others beside them, with links across."""
    for folder in ("backfill/uploads", "backfill/parts", "in", "in/deep", "inner", "secret"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "a.csv").write_text("n\n1\n")
    links = {
        "in/out.csv": "../secret/a.csv",
        "in/folder": "../secret",
        "in/loop": "loop",
        "in/same.csv": "deep/a.csv",
        "entry": "in",
        "backfill/uploads/out.csv": "../../secret/a.csv",
        "backfill/uploads/note.csv": "../parts/a.csv",
    }
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    return tmp_path


def found(place: Path, path: str, *allowed: str) -> Location:
    piece = Slice(path=path.format(place), file_bytes=4)
    return source_path(piece, place / "backfill", [place / name for name in allowed])


@pytest.mark.parametrize(
    "path",
    [
        "{}/in/a.csv",
        "{}/in/deep/../a.csv",
        "{}/in/same.csv",
        "{}/entry/a.csv",
        "{}/secret/../in/a.csv",
        "../in/a.csv",
        "uploads/a.csv",
        "{}/backfill/uploads/a.csv",
    ],
)
def test_what_is_below_a_folder_that_may_be_read_is_found(place: Path, path: str) -> None:
    assert found(place, path, "in").read_text() == "n\n1\n"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "{}/secret/a.csv",
        "{}/inner/a.csv",
        "{}/in/../secret/a.csv",
        "{}/in/out.csv",
        "{}/in/folder/a.csv",
        "{}/entry/../secret/a.csv",
        "{}/secret/nothing.csv",
        "parts/a.csv",
        "../secret/a.csv",
        "uploads/../parts/a.csv",
        "uploads/out.csv",
        "uploads/note.csv",
        "",
        ".",
        "{}/in/a.csv\0",
        "/proc/self/root/etc/passwd",
    ],
)
def test_what_is_elsewhere_is_refused_however_it_is_called(place: Path, path: str) -> None:
    with pytest.raises(InvalidRequest, match="backfill_sources") as caught:
        found(place, path, "in")
    assert caught.value.details["setting"] == "backfill_sources"


def test_a_link_to_itself_leads_nowhere(place: Path) -> None:
    with pytest.raises(DeltaqError):
        list(reader(place, "{}/in/loop").batches())


def test_without_folders_only_uploads_are_read(place: Path) -> None:
    assert found(place, "uploads/a.csv").exists()
    with pytest.raises(InvalidRequest, match=r"\(none\)"):
        found(place, "{}/in/a.csv")


def test_a_folder_that_is_named_by_a_link_is_the_one_behind_it(place: Path) -> None:
    assert found(place, "{}/in/a.csv", "entry").exists()


@given(st.lists(st.sampled_from(["..", ".", "in", "entry", "folder", "deep", "secret", "a.csv"])))
def test_no_way_through_links_and_dots_leads_out(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    place = tmp_path_factory.getbasetemp() / "ways"
    for folder in ("in/deep", "secret"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    if not (place / "entry").is_symlink():
        (place / "entry").symlink_to("in")
        (place / "in" / "folder").symlink_to("../secret")
    path = "/".join([str(place), *steps])
    try:
        real = source_path(Slice(path=path, file_bytes=1), place / "backfill", [place / "in"])
    except InvalidRequest:
        assert not Path(os.path.realpath(path)).is_relative_to(place / "in")
    else:
        assert isinstance(real, Path)
        assert real.is_relative_to(place / "in")
        assert not real.is_symlink()


IN_S3 = S3Path(Bucket("lake", S3Options()), "staging/backfills/b")


@pytest.mark.parametrize(
    ("path", "is_allowed"),
    [
        ("uploads/a.csv", True),
        ("s3://lake/in/a.csv", True),
        ("s3://lake/in/deep/a.csv", True),
        ("/in/a.csv", True),
        ("s3://lake/inner/a.csv", False),
        ("s3://lake/in/../secret/a.csv", False),
        ("s3://other/in/a.csv", False),
        ("uploads/../parts/0.json", False),
        ("manifest.json", False),
        ("/etc/passwd", False),
    ],
)
def test_so_it_is_in_s3(path: str, is_allowed: bool) -> None:
    allowed: list[Location] = [S3Path(IN_S3.bucket, "in"), Path("/in")]
    piece = Slice(path=path, file_bytes=4)
    if is_allowed:
        assert str(source_path(piece, IN_S3, allowed)).endswith(path)
    else:
        with pytest.raises(InvalidRequest, match=r"s3://lake/in, /in"):
            source_path(piece, IN_S3, allowed)


def test_a_bucket_may_be_allowed_as_a_whole() -> None:
    piece = Slice(path="s3://lake/in/a.csv", file_bytes=4)
    assert source_path(piece, IN_S3, [S3Path(IN_S3.bucket, "")])


def test_nothing_in_s3_is_read_for_a_lake_on_a_disk(place: Path) -> None:
    with pytest.raises(InvalidRequest):
        found(place, "s3://lake/in/a.csv", "")


def reader(place: Path, path: str) -> PartReader:
    part = part_of(0, Slice(path=path.format(place), file_bytes=4), format="csv")
    schema = pa.schema([("n", pa.int64())])
    return PartReader(
        part, place / "backfill", schema, Csv(), allowed=[place / "in"], table="prices"
    )


def test_who_reads_looks_again(place: Path) -> None:
    assert sum(batch.num_rows for batch in reader(place, "{}/in/a.csv").batches()) == 1
    with pytest.raises(InvalidRequest, match="backfill_sources"):
        list(reader(place, "{}/in/out.csv").batches())


def test_a_pipe_is_no_source(place: Path) -> None:
    os.mkfifo(place / "in" / "pipe.csv")
    with pytest.raises(StagedDataMissing, match=r"pipe\.csv: it is no file"):
        list(reader(place, "{}/in/pipe.csv").batches())


def test_all_sources_of_all_parts_are_looked_at(place: Path) -> None:
    good = Slice(path=str(place / "in" / "a.csv"), file_bytes=4)
    bad = Slice(path=str(place / "secret" / "a.csv"), file_bytes=4)
    parts = [part_of(0, good), part_of(1, good, bad)]
    check_sources(parts[:1], place / "backfill", [place / "in"])
    with pytest.raises(InvalidRequest, match=r"secret/a\.csv"):
        check_sources(parts, place / "backfill", [place / "in"])
