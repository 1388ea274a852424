"""A worker with a key applies what holders of the key signed, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from pydantic import SecretStr

from deltaq.client import Client, Future, InvalidSignature, Outcome, StagedDataMissing
from deltaq.tasks import keys
from deltaq.tasks.location import Location, make_folder, source_of
from deltaq.tasks.request import Append, Lane, decode_request, new_request_id
from deltaq.tasks.settings import Settings
from tests.support.bench import Bench
from tests.support.requests import make_request, stage

pytestmark = pytest.mark.timeout(300)  # Spark may have to start first

ROWS = pa.table({"id": [1, 2], "name": ["a", "b"]})
FORGED = pa.table({"id": [1, 2], "name": ["a", "forged"]})
KEY = "a key of at least thirty-two characters"


class Guarded(Bench):
    """A committer that has a key, and what somebody without one may try."""

    def drain(self, table: str) -> None:
        self.committer.drain(table)

    def path(self, future: Future[Outcome]) -> Location:
        return self.staging.request_path(future.table, future.request_id)

    def rows(self, table: str) -> list[str]:
        if not (self.settings.lake / table / "_delta_log").exists():
            return []
        files: list[Location] = [*(self.settings.lake / table).glob("*.parquet")]
        return [
            name for file in files for name in pq.read_table(source_of(file))["name"].to_pylist()
        ]

    def replace_entry(self, table: str, change: Callable[[str], str]) -> None:
        """Change what waits for a table, as whoever can write to Redis could."""
        key = keys.inbox(table, Lane.LIVE)
        entries: Any = self.redis.xrange(key)
        self.redis.delete(key)
        for entry, fields in entries:
            self.redis.xadd(key, {**fields, "r": change(fields["r"])}, id=entry)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"lease_ttl": 0.5, **_key(KEY)})


def _key(text: str) -> dict[str, object]:
    return {"signing_key": SecretStr(text)}


@pytest.fixture
def native(settings: Settings) -> Iterator[Guarded]:
    guarded = Guarded(settings)
    yield guarded
    guarded.close()


@pytest.fixture(params=["native", "spark"])
def guarded(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Guarded]:
    if request.param == "spark":
        warm = request.getfixturevalue("warm_spark")
        guarded = Guarded(settings.model_copy(update={"engine": "spark"}), warm=warm)
    else:
        guarded = Guarded(settings)
    yield guarded
    guarded.close()


@pytest.fixture
def stranger(settings: Settings) -> Iterator[Client]:
    """A client with another key."""
    with Client(settings.model_copy(update=_key("x" * 40))) as client:
        yield client


def rewrite(path: Location, rows: pa.Table) -> None:
    """Put other rows under the footer of a staged file, its signature included."""
    with pq.ParquetFile(source_of(path)) as file:
        told = file.metadata.metadata
    content = pa.BufferOutputStream()
    with pq.ParquetWriter(content, rows.schema, store_schema=False) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata(told)
    path.write_bytes(content.getvalue().to_pybytes())


def is_refused(future: Future[Outcome]) -> bool:
    error = future.exception(10)
    assert isinstance(error, InvalidSignature), error
    assert "nothing of it was applied" in str(error)
    return True


def test_what_is_signed_is_applied(guarded: Guarded, client: Client) -> None:
    futures = [client.append("ok", ROWS), client.merge("ok", FORGED, keys="id")]
    guarded.drain("ok")
    assert [future.result(10).operation for future in futures] == ["append", "merge"]


def test_a_file_that_was_changed_is_not_applied_and_its_neighbours_are(
    guarded: Guarded, client: Client
) -> None:
    before, changed, after = (client.append("f", ROWS) for _ in range(3))
    rewrite(guarded.path(changed), FORGED)
    guarded.drain("f")
    assert is_refused(changed)
    assert before.result(10).inserted == after.result(10).inserted == 2
    assert "forged" not in guarded.rows("f")
    assert guarded.rows("f").count("a") == 2
    (letter,) = client.dead_letters("f")
    assert letter.error is not None
    assert letter.error.code == "invalid_signature"


def test_what_others_signed_or_nobody_is_not_applied(
    native: Guarded, stranger: Client, client: Client
) -> None:
    theirs = stranger.append("s", ROWS)
    native.drain("s")
    assert is_refused(theirs)
    request = stage(native.staging, make_request(Append, "s"), ROWS)
    future = client.append("s", ROWS)
    native.inbox.submit(request)
    native.drain("s")
    assert future.result(10).inserted == 2
    (outcome,) = native.inbox.outcomes([("s", request.request_id)])
    assert isinstance(outcome, Outcome)
    assert outcome.error is not None
    assert outcome.error.code == "invalid_signature"
    assert native.rows("s") == ["a", "b"]


@pytest.mark.parametrize(
    ("signed", "changed"), [("id = 1", "true"), ("append", "overwrite"), ("native", "spark")]
)
def test_a_request_that_was_changed_in_the_inbox_is_not_applied(
    native: Guarded, client: Client, signed: str, changed: str
) -> None:
    table = new_request_id()
    client.append(table, ROWS)
    native.drain(table)
    if signed == "append":
        future = client.append(table, ROWS, engine="native")
    else:
        future = client.delete(table, where="id = 1", engine="native")
    native.replace_entry(table, lambda wire: wire.replace(f'"{signed}"', f'"{changed}"'))
    native.drain(table)
    assert is_refused(future)
    assert native.rows(table) == ["a", "b"]


def test_a_signed_file_cannot_be_used_for_another_table(native: Guarded, client: Client) -> None:
    future = client.append("mine", ROWS)
    (entry,) = native.inbox.peek("mine", Lane.LIVE, count=1)
    moved = msgspec.structs.replace(decode_request(entry.wire), table="other")
    stolen = native.staging.request_path("other", future.request_id)
    make_folder(stolen.parent)
    stolen.write_bytes(native.path(future).read_bytes())
    assert native.inbox.submit(moved).sequence == 1
    native.drain("other")
    (outcome,) = native.inbox.outcomes([("other", future.request_id)])
    assert isinstance(outcome, Outcome)
    assert isinstance(outcome.as_error(), StagedDataMissing)
    assert not (native.settings.lake / "other").exists()


def test_what_redis_forgot_is_applied_if_it_was_signed(native: Guarded, client: Client) -> None:
    table = new_request_id()
    future = client.append(table, ROWS)
    forged = stage(native.staging, make_request(Append, table), FORGED)
    with redis.Redis.from_url(native.settings.queue_url) as admin:
        admin.flushall()
    native.drain(table)
    assert native.rows(table) == ["a", "b"]
    assert not native.path(future).exists()
    (letter,) = client.dead_letters(table)
    assert letter.request_id == forged.request_id
