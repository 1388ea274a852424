"""Signatures of staged files and queries: what they hold, and what they let through."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaq.client.frames import to_rows
from deltaq.client.staging import stage
from deltaq.tasks.errors import ConfigurationError, DeltaqError, InvalidSignature, StagedDataMissing
from deltaq.tasks.request import Append, Delete, Request
from deltaq.tasks.settings import load_settings
from deltaq.tasks.signing import Signer, signer_of
from deltaq.tasks.staging import StagingArea
from tests.support.paths import as_path
from tests.support.requests import make_request

KEY, OLD, OTHER = b"k" * 32, b"o" * 32, b"x" * 32
ROWS = pa.table({"id": range(1000), "name": ["deltaq.signature"] * 1000})


class Signed:
    """A request that was staged and signed, and its file."""

    def __init__(self, root: Path, draft: Request, rows: pa.Table | None) -> None:
        area = StagingArea(root)
        frame = None if rows is None else to_rows(rows)
        self.request = stage(area, draft, frame, user="ann", signer=Signer(KEY)).request
        self.path = area.request_path(draft.table, draft.request_id)

    def check(self, request: Request | None = None, signer: Signer | None = None) -> None:
        (signer or Signer(KEY)).check_request(request or self.request, self.path)


def _append(root: Path) -> Signed:
    return Signed(root, make_request(Append, partition_by=("id",)), ROWS)


def _delete(root: Path) -> Signed:
    return Signed(root, make_request(Delete, where="name = 'deltaq.signature'"), None)


@pytest.fixture(params=[_append, _delete])
def signed(tmp_path: Path, request: pytest.FixtureRequest) -> Signed:
    make: Callable[[Path], Signed] = request.param
    return make(tmp_path)


def test_what_is_signed_with_the_key_or_the_one_before_is_good(signed: Signed) -> None:
    signed.check()
    signed.check(signer=Signer(OTHER, KEY))


def test_what_is_signed_with_another_key_is_not(signed: Signed) -> None:
    with pytest.raises(InvalidSignature, match="another key") as caught:
        signed.check(signer=Signer(OTHER, OLD))
    assert caught.value.request_id == signed.request.request_id


def test_what_is_not_signed_is_not(tmp_path: Path) -> None:
    draft = make_request(Append)
    request = stage(StagingArea(tmp_path), draft, to_rows(ROWS)).request
    path = StagingArea(tmp_path).request_path(draft.table, draft.request_id)
    with pytest.raises(InvalidSignature, match="not signed"):
        Signer(KEY).check_request(request, path)


def test_a_request_that_is_submitted_again_by_another_client_is_good(signed: Signed) -> None:
    signed.check(msgspec.structs.replace(signed.request, client_id="d" * 32, expires_ms=7))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("lane", "bulk"), ("engine", "spark"), ("digest", "d"), ("size_bytes", 1)),
        *(("submitted_by", "bob"), ("submitted_at_ms", 1)),
    ],
)
def test_a_request_that_says_other_than_its_file_is_not(
    signed: Signed, field: str, value: object
) -> None:
    with pytest.raises(InvalidSignature, match="another request"):
        signed.check(msgspec.structs.replace(signed.request, **{field: value}))


def test_another_condition_than_was_signed_is_not_good(tmp_path: Path) -> None:
    signed = _delete(tmp_path)
    assert isinstance(signed.request, Delete)
    with pytest.raises(InvalidSignature, match="another request"):
        signed.check(msgspec.structs.replace(signed.request, where="true"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    return _append(tmp_path_factory.mktemp("signed"))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_byte_of_the_file_can_be_changed(original: Signed, data: st.DataObject) -> None:
    kept = original.path.read_bytes()
    # Pages are most of the file, and its end is where the meaning is.
    place = data.draw(st.integers(0, len(kept) - 1) | st.integers(len(kept) - 900, len(kept) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(kept)
    changed[place] ^= 1 << bit
    as_path(original.path).write_bytes(changed)
    try:
        with pytest.raises(DeltaqError) as caught:
            original.check()
    finally:
        original.path.write_bytes(kept)
    assert not caught.value.retryable


def test_rows_cannot_be_added_behind_or_before(signed: Signed) -> None:
    kept = signed.path.read_bytes()
    for changed in (kept + kept, kept[:4] + kept):
        signed.path.write_bytes(changed)
        with pytest.raises((InvalidSignature, StagedDataMissing)):
            signed.check()


def test_a_signed_file_is_of_one_request_on_one_table(signed: Signed) -> None:
    for other in (signed.path.with_name("other.parquet"), signed.path.parents[1] / "t" / "x"):
        as_path(other).parent.mkdir(exist_ok=True)
        shutil.copy(as_path(signed.path), as_path(other))
        with pytest.raises(StagedDataMissing, match="the file is that of request"):
            Signer(KEY).check_request(signed.request, other)


def test_a_link_is_no_staged_file(signed: Signed, tmp_path: Path) -> None:
    elsewhere = as_path(signed.path).rename(tmp_path / "elsewhere")
    as_path(signed.path).symlink_to(elsewhere)
    with pytest.raises(StagedDataMissing, match="a link"):
        signed.check()


def test_a_query_is_good_with_either_key_and_as_it_was_signed() -> None:
    wire = '{"op":"read"}'
    signature = Signer(KEY).query_signature(wire)
    Signer(KEY).check_query(wire, signature)
    Signer(OTHER, KEY).check_query(wire, signature)
    for signer, asked, told in (
        (Signer(OTHER), wire, signature),
        (Signer(KEY), wire + " ", signature),
        (Signer(KEY), wire, "0" * 64),
        (Signer(KEY), wire, None),
        (Signer(KEY), wire, "\udcff" * 64),
        (Signer(KEY), wire, cast("str", 7)),
    ):
        with pytest.raises(InvalidSignature):
            signer.check_query(asked, told)


def test_an_old_key_is_none_without_a_new_one() -> None:
    with pytest.raises(ConfigurationError, match="signing_key_old"):
        load_settings(lake="/lake", signing_key_old="b" * 32)


def test_there_is_no_signer_without_a_key() -> None:
    assert signer_of(load_settings(lake="/lake")) is None
    both = load_settings(lake="/lake", signing_key="a" * 32, signing_key_old="b" * 32)
    assert signer_of(both) is not None
    assert "aaa" not in repr(both)
