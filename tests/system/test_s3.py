"""A whole system whose lake and staging area are in S3, beside a server that may do harm."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from deltaq.client import (
    Client,
    InvalidRequest,
    SchemaMismatch,
    State,
    StorageUnavailable,
    TableNotFound,
    VersionNotFound,
)
from deltaq.tasks.s3 import Bucket
from deltaq.tasks.s3_path import S3Path
from deltaq.worker import System, embedded
from tests.support.log import committed_requests
from tests.support.s3 import S3Server
from tests.support.s3_faults import INTERNAL_ERROR, SLOW_DOWN, Call, Cut
from tests.support.s3_proxy import S3Proxy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)
ROWS = pa.table({"id": [1, 2, 3], "price": [1.0, 2.0, 3.0]})


@pytest.fixture(scope="module")
def proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    """A proxy for the module's system, which is healed before each test."""
    with S3Proxy(s3_server) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def system(s3_server: S3Server, proxy: S3Proxy) -> Iterator[System]:
    lake = f"s3://{s3_server.bucket}/system"
    with embedded(lake, spark="off", **s3_server.settings(proxy.endpoint)) as system:
        system.wait_ready()
        yield system
    shutil.rmtree(system.log.parent)


@pytest.fixture
def client(system: System, proxy: S3Proxy) -> Iterator[Client]:
    proxy.heal()
    proxy.latency = 0.0
    with system.client() as client:
        yield client


@pytest.fixture
def table(request: pytest.FixtureRequest) -> str:
    return str(request.node.originalname)[:60]


def opened(server: S3Server, table: str) -> DeltaTable:
    """Open a table without the proxy."""
    url = f"s3://{server.bucket}/system/{table}"
    return DeltaTable(url, storage_options=server.storage_options())


def test_a_table_lives_through_every_operation(
    client: Client, s3_server: S3Server, table: str
) -> None:
    futures = [
        client.append(table, ROWS),
        client.merge(table, pa.table({"id": [3, 4], "price": [30.0, 40.0]}), keys=["id"]),
        client.delete(table, where="id = 1"),
        client.overwrite(table, pa.table({"id": [2], "price": [20.0]}), where="id = 2"),
    ]
    outcomes = [f.result(60) for f in futures]

    assert [o.version for o in outcomes] == [0, 1, 2, 3]
    assert (outcomes[1].updated, outcomes[1].inserted, outcomes[2].deleted) == (1, 1, 1)
    now = client.read(table, where="id >= 2").result(60).sort_by("id")
    assert now.to_pydict() == {"id": [2, 3, 4], "price": [20.0, 30.0, 40.0]}
    with client.scan(table, version=0) as scan:
        assert sum(batch.num_rows for batch in scan) == 3
    counted = client.sql(f"SELECT count(*) AS n FROM {table}").result(60)
    assert counted.to_pydict() == {"n": [3]}
    assert client.history(table)["version"].to_pylist() == [3, 2, 1, 0]
    assert next(iter(client.watch([table], from_version=2))).request_ids == (futures[2].request_id,)
    assert client.optimize(table).result(60).state is State.COMMITTED
    assert client.checkpoint(table).result(60).state is State.COMMITTED
    assert client.vacuum(table, dry_run=True).result(60).value["files"] == 0
    assert client.restore(table, version=0).result(60).state is State.COMMITTED
    assert opened(s3_server, table).to_pyarrow_table().num_rows == 3
    assert table in client.tables()


def test_errors_are_those_of_a_disk_and_change_nothing(client: Client, table: str) -> None:
    client.append(table, ROWS).result(60)
    with pytest.raises(SchemaMismatch):
        client.append(table, pa.table({"other": [1]})).result(60)
    with pytest.raises(VersionNotFound):
        client.read(table, version=9).result(60)
    with pytest.raises(TableNotFound):
        client.read(f"{table}_2").result(60)
    (letter,) = [d for d in client.dead_letters() if d.table == table]
    assert isinstance(letter.path, S3Path)
    assert client.read(table).result(60).num_rows == 3


def test_a_dropped_table_is_gone_and_the_next_of_its_name_is_another_one(
    client: Client, s3_server: S3Server, table: str
) -> None:
    for n in range(3):
        client.append(table, pa.table({"n": [n]})).result(60)
    client.drop(table, confirm=table).result(60)
    assert not client.exists(table)

    client.append(table, pa.table({"other": ["a"]})).result(60)
    assert client.read(table).result(60).to_pydict() == {"other": ["a"]}
    client.append(table, pa.table({"other": ["b"]})).result(60)
    assert opened(s3_server, table).version() == 1
    wait_until(lambda: len([*files_of(s3_server, table)]) == 4)  # two entries, two files


def files_of(server: S3Server, table: str) -> Iterator[str]:
    listed = server.client().list_objects_v2(Bucket=server.bucket, Prefix=f"system/{table}/")
    return (found["Key"] for found in listed.get("Contents", ()))


def test_a_backfill_reads_and_writes_there(
    client: Client, s3_server: S3Server, table: str, tmp_path: Path
) -> None:
    source, sources = f"{s3_server.bucket}/sources/{table}", f"sources/{table}"
    days = pa.table({"day": ["a", "b"] * 500, "n": range(1000)})
    pq.write_table(days, tmp_path / "some.parquet", row_group_size=300)
    lines = b"n\n" + b"".join(b"%d\n" % n for n in range(1000, 1500))
    for name, content in [
        ("some.parquet", (tmp_path / "some.parquet").read_bytes()),
        ("day=c/rest.csv", lines),
    ]:
        S3Path(bucket_of(client), f"{sources}/{name}").write_bytes(content)
    pq.write_table(days.slice(0, 10), tmp_path / "local.parquet")
    load = partial(client.backfill, table, partition_by=["day"], sort_by=["n"])

    assert load(f"s3://{source}/").result(60).rows == 1500
    assert load(f"s3://{source}/*/*.csv").result(60).rows == 500
    assert load([tmp_path / "local.parquet"], upload=True).result(60).rows == 10
    assert load(days.slice(0, 1), mode="replace_partitions").result(60).deleted == 505

    counted = client.read(table, columns=["day"]).result(60)["day"].value_counts().to_pylist()
    assert {c["values"]: c["counts"] for c in counted} == {"a": 1, "b": 505, "c": 1000}
    with pytest.raises(InvalidRequest, match="no object is there"):
        load(f"s3://{source}/missing")
    backfills = S3Path(bucket_of(client), "system/.deltaq/backfills")
    wait_until(lambda: not list(backfills.glob("*/uploads/*/*")))


def bucket_of(client: Client) -> Bucket:
    lake = client.settings.lake
    assert isinstance(lake, S3Path)
    return lake.bucket


def test_nothing_is_left_in_the_staging_area(
    client: Client, s3_server: S3Server, table: str
) -> None:
    for n in range(5):
        client.append(table, pa.table({"n": [n]})).result(60)
    client.read(table).result(60)
    listed = s3_server.client()

    def left() -> list[str]:
        found = []
        for folder in (f"requests/{table}/", "reads/"):
            prefix = f"system/.deltaq/{folder}"
            told = listed.list_objects_v2(Bucket=s3_server.bucket, Prefix=prefix)
            found += [f["Key"] for f in told.get("Contents", ())]
        return found

    wait_until(lambda: left() == [])


def test_a_frame_of_many_megabytes_is_staged_in_parts(client: Client, table: str) -> None:
    rows = pa.table({"n": range(200_000), "blob": [os.urandom(150) for _ in range(200_000)]})
    assert client.append(table, rows).result(120).rows == 200_000
    assert client.read(table, columns=["blob"]).result(60)["blob"].to_pylist().count(None) == 0


def test_an_append_waits_for_eight_calls_and_its_submission_for_one(
    client: Client, proxy: S3Proxy, table: str
) -> None:
    def append() -> tuple[float, list[Call]]:
        proxy.forget()
        began = time.monotonic()
        future = client.append(table, ROWS)
        submitted = [call for call in proxy.calls if f"/requests/{table}/" in call.path]
        future.result(60)
        return time.monotonic() - began, submitted

    append()
    at_once = min(append()[0] for _ in range(5))
    proxy.latency = 0.2  # so long that the rest of the machine's work is little beside it
    waited, submitted = min((append() for _ in range(3)), key=lambda told: told[0])

    assert [call.method for call in submitted] == ["PUT"]
    assert round((waited - at_once) / proxy.latency) <= 8, [*map(str, proxy.calls)]


@pytest.mark.parametrize("deed", [SLOW_DOWN, INTERNAL_ERROR, *Cut], ids=str)
def test_a_server_in_trouble_costs_time_and_no_request(
    client: Client,
    proxy: S3Proxy,
    s3_server: S3Server,
    deed: object,
    request: pytest.FixtureRequest,
) -> None:
    table = "trouble_" + "".join(c for c in request.node.callspec.id.lower() if c.isalpha())[:40]
    client.append(table, pa.table({"n": [-1]})).result(60)
    proxy.inflict(deed, every=7)  # type: ignore[arg-type]

    futures = [submitted(client, table, n) for n in range(25)]
    outcomes = [f.result(120) for f in futures]

    proxy.heal()
    assert {o.state for o in outcomes} == {State.COMMITTED}
    held = opened(s3_server, table).to_pyarrow_table()["n"].to_pylist()
    assert sorted(held) == list(range(-1, 25))


def submitted(client: Client, table: str, n: int):  # type: ignore[no-untyped-def]
    """Submit a row as a program does that tries again what is worth it."""
    for _ in range(20):
        try:
            return client.append(table, pa.table({"n": [n]}), request_id=f"{table}-{n}")
        except StorageUnavailable:
            continue
    raise AssertionError("it never was staged")


def test_a_killed_worker_leaves_each_request_once(s3_server: S3Server) -> None:
    lake = f"s3://{s3_server.bucket}/killed"
    with ExitStack() as stack:
        system = stack.enter_context(
            embedded(lake, workers=2, spark="off", lease_ttl=1.0, **s3_server.settings())
        )
        system.wait_ready()
        client = stack.enter_context(system.client())
        futures = [client.append("t", pa.table({"n": [n]})) for n in range(40)]
        futures[5].result(60)
        os.kill(system.worker_pids[0], signal.SIGKILL)
        futures += [client.append("t", pa.table({"n": [n]})) for n in range(40, 80)]
        for future in futures:
            future.result(60)
        rows = client.read("t").result(60)["n"].to_pylist()
        assert sorted(rows) == list(range(80))
        ids = [r[2] for r in committed_requests(system.settings.lake / "t", maintenance=False)]
        assert ids == [f.request_id for f in futures]
    shutil.rmtree(system.log.parent)
