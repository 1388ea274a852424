"""Paths in S3 do what pathlib's do, on two servers, and never replace what they create."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltaq.tasks import s3
from deltaq.tasks.location import (
    Location,
    create,
    make_folder,
    move,
    open_input,
    parse_location,
    remove_folder,
)
from deltaq.tasks.s3_path import S3Path
from tests.support import s3_faults as faults
from tests.support.places import files_in
from tests.support.s3 import S3Server
from tests.support.s3_faults import Call, Cut, Refusal, is_conditional_put
from tests.support.s3_proxy import S3Proxy

#: Above which an upload is made in parts.
LARGE = bytes(range(256)) * (20 << 12)


@pytest.fixture(params=["s3_server", "moto_server"])
def folder(request: pytest.FixtureRequest) -> S3Path:
    """An empty folder on each of both servers."""
    return folder_at(request.getfixturevalue(request.param))


@pytest.fixture
def through_proxy(s3_server: S3Server, s3_proxy: S3Proxy) -> S3Path:
    return folder_at(s3_server, s3_proxy.endpoint)


def folder_at(server: S3Server, endpoint: str | None = None) -> S3Path:
    url = f"s3://{server.bucket}/{secrets.token_hex(6)}"
    place = parse_location(url, server.options(endpoint))
    assert isinstance(place, S3Path)
    return place


def write(path: Location, content: bytes) -> None:
    make_folder(path.parent)
    path.write_bytes(content)


def write_new(path: Location, content: bytes) -> None:
    with create(path) as file:
        file.write(content)


def read_opened(path: Location) -> bytes:
    with path.open("rb") as file:
        return file.read()


def rename(path: Location, target: Location) -> None:
    make_folder(target.parent)
    move(path, target)


def names(found: Any, folder: Location) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in found)


def look(folder: Location, name: str) -> dict[str, Any]:
    """Tell what all that only reads tells of a name and its folder."""
    path = folder / name
    return {
        "there": (path.exists(), path.is_file(), path.is_dir()),
        "parent": (path.parent.exists(), path.parent.is_file(), path.parent.is_dir()),
        "size": path.stat().st_size if path.is_file() else None,
        "content": path.read_bytes() if path.is_file() else None,
        "listed": names(path.parent.iterdir(), folder) if path.parent.is_dir() else [],
        "matches": names(folder.glob("*/*.json"), folder),
        "below": names(files_in(folder), folder),
        "parts": (path.name, path.stem, path.suffix, path.with_suffix(".x").name),
    }


NAMES = st.sampled_from(["a", "b/c.json", "b/d", "b/e/f.json", "g/c.json", "g/.h", "i j/k=1.json"])
CONTENT = st.binary(max_size=10)
STEPS = st.one_of(
    st.tuples(st.just(write), NAMES, CONTENT),
    st.tuples(st.just(write_new), NAMES, CONTENT),
    st.tuples(st.just(rename), NAMES, NAMES),
    st.tuples(st.just(lambda path: path.unlink()), NAMES),
    st.tuples(st.just(lambda path: path.unlink(missing_ok=True)), NAMES),
    st.tuples(st.just(lambda path: remove_folder(path.parent)), NAMES.filter(lambda n: "/" in n)),
    st.tuples(st.just(lambda path: path.read_bytes()), NAMES),
    st.tuples(st.just(lambda path: path.stat().st_size), NAMES),
    st.tuples(st.just(read_opened), NAMES),
    st.tuples(st.just(lambda path: open_input(path).read()), NAMES),
)


def outcome(folder: Location, step: tuple[Any, ...]) -> object:
    do, name, *more = step
    arguments = [folder / m if isinstance(m, str) else m for m in more]
    try:
        return do(folder / name, *arguments)
    except OSError as exc:
        return type(exc)


def remove_empty(folder: Path) -> None:
    """Remove the folders with nothing in them, as S3 has none."""
    for path in sorted((folder, *folder.rglob("*")), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, min_size=3, max_size=12))
def test_whatever_is_done_a_disk_and_s3_tell_the_same(
    s3_server: S3Server, tmp_path: Path, steps: list[tuple[Any, ...]]
) -> None:
    on_disk, in_s3 = tmp_path / secrets.token_hex(6), folder_at(s3_server)

    for step in steps:
        told = [outcome(place, step) for place in (on_disk, in_s3)]
        remove_empty(on_disk)
        assert told[0] == told[1], step
        assert look(on_disk, step[1]) == look(in_s3, step[1]), step


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_what_is_there_is_never_replaced(folder: S3Path, content: bytes) -> None:
    write_new(folder / "once", content)

    with pytest.raises(FileExistsError):
        write_new(folder / "once", b"again" + content)

    assert (folder / "once").read_bytes() == content
    assert open_input(folder / "once").read() == content
    assert unfinished(folder) == []


def unfinished(folder: S3Path) -> list[str]:
    """Name the uploads that were begun and neither completed nor aborted."""
    bucket = folder.bucket
    listed = bucket.uploads.list_multipart_uploads(Bucket=bucket.name, Prefix=folder.key)
    return [upload["Key"] for upload in listed.get("Uploads", ())]


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_of_many_that_create_an_object_at_once_one_does(
    s3_server: S3Server, content: bytes
) -> None:
    path = folder_at(s3_server) / "once"

    def attempt(number: int) -> int | None:
        try:
            write_new(path, bytes([number]) + content)
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(4) as pool:
        winners = [number for number in pool.map(attempt, range(4)) if number is not None]

    assert len(winners) == 1
    assert path.read_bytes()[0] == winners[0]


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_what_fails_while_it_is_written_leaves_nothing(folder: S3Path, content: bytes) -> None:
    def fail_in_the_middle() -> None:
        with create(folder / "never") as file:
            file.write(content)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle()

    assert files_in(folder) == []
    assert unfinished(folder) == []


CONFLICT = Refusal(status=409, code="ConditionalRequestConflict")


def is_completion(call: Call) -> bool:
    return call.method == "POST" and "uploadId" in call.query


def test_a_conflict_with_nothing_is_no_reason_to_give_up(
    through_proxy: S3Path, s3_proxy: S3Proxy
) -> None:
    s3_proxy.inflict(CONFLICT, only=is_conditional_put, times=3)

    write_new(through_proxy / "new", b"content")

    assert (through_proxy / "new").read_bytes() == b"content"


def test_conflicts_without_end_are_told(
    through_proxy: S3Path, s3_proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_RETRY", 1)
    s3_proxy.inflict(CONFLICT, only=lambda c: is_conditional_put(c) or is_completion(c))

    for content in (b"small", LARGE):
        with pytest.raises(OSError, match=r"again and again|another upload") as caught:
            write_new(through_proxy / "new", content)
        assert not isinstance(caught.value, FileExistsError)

    s3_proxy.heal()
    assert files_in(through_proxy) == []
    assert unfinished(through_proxy) == []


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.UPLOAD, Cut.ANSWER], ids=str)
def test_a_lost_connection_is_no_loss(
    through_proxy: S3Path, s3_proxy: S3Proxy, content: bytes, cut: Cut
) -> None:
    s3_proxy.inflict(cut, only=lambda c: is_conditional_put(c) or is_completion(c), times=1)

    try:
        write_new(through_proxy / "new", content)
    except FileExistsError:  # by the call whose answer was lost
        assert cut is Cut.ANSWER

    assert (through_proxy / "new").read_bytes() == content
    assert unfinished(through_proxy) == []


def test_an_upload_that_cannot_even_be_aborted_tells_why_it_failed(
    through_proxy: S3Path, s3_proxy: S3Proxy
) -> None:
    s3_proxy.inflict(faults.EXPIRED_TOKEN, only=lambda c: "partNumber" in c.query)
    s3_proxy.inflict(faults.ACCESS_DENIED, only=lambda c: c.method == "DELETE")

    with pytest.raises(PermissionError, match="the credentials have expired"):
        write_new(through_proxy / "new", LARGE)


def test_a_file_is_uploaded_and_read_in_parts(folder: S3Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(LARGE)

    (folder / "file").upload(file)

    with open_input(folder / "file") as opened:
        opened.seek(len(LARGE) - 4)
        assert opened.read() == LARGE[-4:]
        opened.seek(0)
        assert opened.read(3) == LARGE[:3]


def test_only_what_is_unchanged_is_removed(folder: S3Path) -> None:
    path = folder / "entry"
    path.write_bytes(b"first")
    before = path.stat().etag
    path.write_bytes(b"second")

    path.remove_unchanged(before)
    assert path.read_bytes() == b"second"
    path.remove_unchanged(path.stat().etag)
    assert not path.exists()
    path.remove_unchanged(before)


def test_more_objects_than_a_listing_has_are_found_and_removed(s3_server: S3Server) -> None:
    folder = folder_at(s3_server)
    for number in range(1005):  # past the server: it would take seconds
        file = s3_server.file(f"{folder.key}/many/{number:04d}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    assert len([*folder.walk_files()]) == 1005
    assert len([*(folder / "many").iterdir()]) == 1005
    folder.remove_tree()
    assert [*folder.walk_files()] == []


def test_what_hadoop_marks_folders_by_goes_with_the_folder(folder: S3Path) -> None:
    client, bucket = folder.bucket.uploads, folder.bucket.name
    for key in ("table/", "table/_delta_log/", "table/_delta_log/0.json", "table/part-0", "other/"):
        client.put_object(Bucket=bucket, Key=f"{folder.key}/{key}", Body=b"")

    (folder / "table").remove_tree()

    left = client.list_objects_v2(Bucket=bucket, Prefix=f"{folder.key}/")["Contents"]
    assert [found["Key"] for found in left] == [f"{folder.key}/other/"]


READS: list[Callable[[S3Path], object]] = [
    lambda path: path.read_bytes(),
    lambda path: [*path.iterdir()],
    lambda path: [*path.walk_files()],
    lambda path: path.is_dir(),
    lambda path: path.open_input(),
    lambda path: write_new(path, b"x"),
    lambda path: path.unlink(missing_ok=True),
]


@pytest.mark.parametrize("number", range(len(READS)))
def test_every_error_names_the_path_and_the_reason(
    through_proxy: S3Path, s3_proxy: S3Proxy, number: int
) -> None:
    s3_proxy.inflict(faults.EXPIRED_TOKEN)

    with pytest.raises(PermissionError, match="the credentials have expired") as caught:
        READS[number](through_proxy / "it")

    assert str(caught.value.filename).startswith(str(through_proxy))
