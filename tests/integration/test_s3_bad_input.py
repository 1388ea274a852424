"""S3 that refuses: who is told what, and that nothing is lost by it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deltaq.client import Client, StorageUnavailable
from deltaq.tasks import s3
from deltaq.tasks.errors import ConfigurationError, DeltaqError
from deltaq.tasks.location import Location
from deltaq.tasks.request import Append, Delete, Merge, Overwrite, Request
from deltaq.tasks.s3 import Bucket
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.app import Worker
from deltaq.worker.doctor.finding import Level
from deltaq.worker.doctor.storage import check_storage
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.lake import Lake
from deltaq.worker.s3_check import require_s3
from deltaq.worker.warm import WarmSpark
from tests.support import s3_faults as faults
from tests.support.applying import Applier
from tests.support.bench import Bench
from tests.support.reading import ReadingWorker
from tests.support.redis import RedisServer
from tests.support.s3 import S3Server
from tests.support.s3_faults import Call, Refusal, is_conditional_put
from tests.support.s3_proxy import S3Proxy

ROWS = pa.table({"id": [1, 2, 3], "price": [1.0, 2.0, 3.0]})
#: What the server answers, and what is said of it.
REFUSALS = [
    (faults.NO_SUCH_BUCKET, "there is no bucket lake"),
    (faults.ACCESS_DENIED, "this account may not do that"),
    (faults.INVALID_KEY, "does not know this access key"),
    (faults.WRONG_SIGNATURE, "the secret key is not that"),
    (faults.EXPIRED_TOKEN, "the credentials have expired"),
    (faults.CLOCK_SKEW, "clocks of this machine and the server differ"),
    (faults.WRONG_REGION, "bucket lake is in another region: set s3_region"),
    (faults.WRONG_REGION_SIGNED, "bucket lake is in eu-central-1: set s3_region"),
    (faults.NOT_IMPLEMENTED, "no conditional put"),
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a server that fails be given up after a second."""
    monkeypatch.setattr(s3, "_RETRY", 1)


@dataclass(frozen=True)
class Way:
    """How a test gets to S3."""

    url: str
    redis_url: str
    given: dict[str, Any] = field(repr=False)

    def settings(self, **other: Any) -> Settings:
        found = {"lake": f"{self.url}/lake", "redis_url": self.redis_url, **self.given, **other}
        return load_settings(**{name: value for name, value in found.items() if value})


@pytest.fixture
def way(s3_server: S3Server, s3_proxy: S3Proxy, s3_url: str, redis_server: RedisServer) -> Way:
    return Way(s3_url, redis_server.url, s3_server.settings(s3_proxy.endpoint))


def told_at_start(settings: Settings) -> str:
    """Have a worker refuse to start, check that the doctor says the same, and return it."""
    with pytest.raises(ConfigurationError) as caught:
        Worker(settings.model_copy(update={"spark": "off"}))
    findings = [*check_storage(settings)]
    assert [f.level for f in findings] == [Level.ERROR]
    assert findings[0].message == caught.value.message
    return caught.value.message


@pytest.mark.parametrize(("refusal", "told"), REFUSALS, ids=lambda v: getattr(v, "code", ""))
def test_what_no_waiting_mends_is_told_at_start_by_the_doctor_and_at_submission(
    way: Way, s3_proxy: S3Proxy, refusal: Refusal, told: str
) -> None:
    only = is_conditional_put if refusal is faults.NOT_IMPLEMENTED else (lambda _: True)
    s3_proxy.inflict(refusal, only=only)
    settings = way.settings()

    assert told in told_at_start(settings)
    with Client(settings) as client, pytest.raises(StorageUnavailable, match=told):
        client.append("t", ROWS)

    s3_proxy.heal()
    require_s3(settings)
    assert [f.level for f in check_storage(settings)] == [Level.OK]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lake": "s3://nowhere/lake"}, "there is no bucket nowhere"),
        ({"s3_access_key_id": "nobody"}, "does not know this access key"),
        ({"s3_secret_access_key": "wrong"}, "the secret key is not that"),
        ({"s3_region": "eu-west-1"}, "bucket lake is in us-east-1: set s3_region"),
        ({"s3_access_key_id": "", "s3_secret_access_key": ""}, "no credentials"),
    ],
    ids=["bucket", "key", "secret", "region", "none"],
)
def test_a_real_server_is_understood(
    way: Way, given: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    settings = way.settings(**given)

    assert told in told_at_start(settings)
    with Client(settings) as client, pytest.raises(DeltaqError, match=told):
        client.append("t", ROWS)


def test_a_server_that_replaces_what_it_must_not_is_refused(way: Way, s3_proxy: S3Proxy) -> None:
    s3_proxy.ignores_conditions = True

    told = told_at_start(way.settings())

    assert "it has no conditional put, and two workers would lose each other's commits" in told


def test_a_server_that_is_not_there_is_waited_for(
    way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    settings = way.settings(s3_endpoint="http://127.0.0.1:9")

    require_s3(settings)

    (line,) = caplog.messages
    assert "http://127.0.0.1:9 cannot be reached" in line
    assert caplog.records[0].levelno == logging.WARNING
    (finding,) = check_storage(settings)
    assert (finding.level, finding.message in line) == (Level.ERROR, True)
    with Client(settings) as client, pytest.raises(StorageUnavailable, match="cannot be reached"):
        client.append("t", ROWS)


def test_nothing_is_left_by_the_check(way: Way) -> None:
    settings = way.settings()
    require_s3(settings)
    assert isinstance(settings.lake, S3Path)
    assert [*settings.lake.walk_files()] == []


@pytest.fixture
def lake(s3_server: S3Server, s3_proxy: S3Proxy, way: Way) -> Location:
    return way.settings().lake


def engine_on(lake: Location) -> NativeEngine:
    return NativeEngine(Lake(lake), StagingArea(lake / ".deltaq"))


#: Each with its further arguments.
OPERATIONS: list[tuple[type[Request], dict[str, Any]]] = [
    (Append, {}),
    (Merge, {"keys": ("id",)}),
    (Overwrite, {}),
    (Delete, {"where": "id = 1"}),
]


@pytest.mark.parametrize(("kind", "fields"), OPERATIONS, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize(
    "refusal", [faults.EXPIRED_TOKEN, faults.ACCESS_DENIED], ids=lambda r: r.code
)
def test_whichever_call_is_refused_a_commit_is_worth_another_try(
    lake: Location,
    s3_proxy: S3Proxy,
    kind: type[Request],
    fields: dict[str, Any],
    refusal: Refusal,
) -> None:
    table = Applier(engine_on(lake), lake)
    table.append(ROWS)
    request = table.stage(kind, None if kind is Delete else ROWS, **fields)
    group = table.group(request)
    version = 1

    for number in range(1, 30):
        table.engine = engine_on(lake)  # one that has to read the log first
        s3_proxy.inflict(refusal, only=_from(number))
        try:
            commit = table.apply_group(group)
        except StorageUnavailable:
            s3_proxy.heal()
            found = table.engine.ledger("prices", group.app_id)
            if found == 1:  # what was refused came after the commit
                break
        else:
            assert commit.version is not None
            version = commit.version
            break

    s3_proxy.heal()
    assert number > 8
    assert version == 1
    assert table.read_version()[0] == 1


def _from(number: int) -> Any:
    seen = 0

    def is_meant(_: Call) -> bool:
        nonlocal seen
        seen += 1
        return seen >= number

    return is_meant


@pytest.fixture
def by_spark(s3_server: S3Server, s3_proxy: S3Proxy, warm_spark: WarmSpark) -> Iterator[S3Path]:
    """A bucket that the run's Spark reaches through the proxy."""
    bucket = f"harmed-{secrets.token_hex(4)}"
    s3_server.client().create_bucket(Bucket=bucket)
    context: Any = warm_spark.session(timeout=240).sparkContext
    name = f"fs.s3a.bucket.{bucket}.endpoint"
    context._jsc.hadoopConfiguration().set(name, s3_proxy.endpoint)
    yield S3Path(Bucket(bucket, s3_server.options(s3_proxy.endpoint)), "lake")
    context._jsc.hadoopConfiguration().unset(name)


#: Calls of a commit by Spark, and the first of them that is refused.
CALLS: dict[str, tuple[Callable[[Call], bool], int]] = {
    "the log in the transaction": (lambda c: c.method == "GET" and "prefix" in c.query, 4),
    "its size": (lambda c: "/requests/" in c.path and c.method == "HEAD", 2),
    "the commit": (lambda c: c.method == "PUT" and "_delta_log" in c.path, 1),
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_whichever_call_of_spark_is_refused_a_commit_is_worth_another_try(
    by_spark: S3Path, warm_spark: WarmSpark, s3_proxy: S3Proxy
) -> None:
    table = Applier(engine_on(by_spark), by_spark)
    table.append(ROWS)
    table.engine = SparkEngine(warm_spark, table.lake, table.staging)

    for version, (is_meant, first) in enumerate(CALLS.values(), 1):
        group = table.group(table.stage(Append, ROWS))
        seen = _from(first)
        s3_proxy.inflict(
            faults.EXPIRED_TOKEN,
            only=lambda c, m=is_meant, s=seen: m(c) and s(c),  # type: ignore[misc]
        )
        with pytest.raises(StorageUnavailable):
            table.apply_group(group)
        s3_proxy.heal()
        assert table.apply_group(group).version == version

    assert table.read().num_rows == 3 * (len(CALLS) + 1)


@pytest.fixture
def bench(way: Way) -> Iterator[Bench]:
    bench = Bench(way.settings(retry_seconds=0.05))
    yield bench
    bench.close()


def test_credentials_that_fail_for_a_while_cost_time_only(bench: Bench, s3_proxy: S3Proxy) -> None:
    with Client(bench.settings) as client:
        client.append("t", pa.table({"n": [0]}))
        bench.committer.drain("t")
        futures = [client.append("t", pa.table({"n": [n]})) for n in range(1, 6)]
        for refusal in (faults.EXPIRED_TOKEN, faults.ACCESS_DENIED, faults.CLOCK_SKEW):
            s3_proxy.inflict(refusal, times=5)
            bench.committer.drain("t")
        s3_proxy.heal()
        bench.committer.drain("t")

        assert {f.result(timeout=10).state for f in futures} == {"committed"}
    rows = Applier(engine_on(bench.settings.lake), bench.settings.lake, "t").rows("n")
    assert rows == [(n,) for n in range(6)]


@pytest.fixture
def own_bucket(s3_server: S3Server) -> Path:
    """The folder in which the server has a bucket: elsewhere, the bucket is gone."""
    bucket = f"passing-{secrets.token_hex(4)}"
    s3_server.client().create_bucket(Bucket=bucket)
    return s3_server.file("").parent / bucket


def test_a_bucket_that_goes_while_a_worker_runs_is_named_and_costs_time_only(
    own_bucket: Path,
    s3_server: S3Server,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = f"there is no bucket {own_bucket.name} at this server"
    settings = load_settings(
        lake=f"s3://{own_bucket.name}/lake",
        redis_url=redis_server.url,
        retry_seconds=0.05,
        time_slice=0.5,
        **s3_server.settings(),
    )
    bench = Bench(settings)
    with Client(settings) as client, ReadingWorker(settings):
        client.append("t", pa.table({"n": [0]}))
        bench.committer.drain("t")
        futures = [client.append(table, pa.table({"n": [1]})) for table in ("t", "new")]
        own_bucket.rename(own_bucket.with_name("away"))
        for table in ("t", "new"):
            bench.committer.drain(table)

        waiting = [status.retrying for status in client.status()]
        assert [told in retrying.error for retrying in waiting if retrying] == [True, True]
        assert "unforeseen" not in caplog.text
        for ask in (
            lambda: client.append("t", ROWS),
            lambda: client.read("t").result(20),
            lambda: client.sql("SELECT * FROM t").result(20),
            lambda: client.exists("t"),
            lambda: client.tables(),
            lambda: client.dead_letters(),
            lambda: client.redrive("lost"),
        ):
            with pytest.raises(StorageUnavailable, match=told):
                ask()

        own_bucket.with_name("away").rename(own_bucket)
        for table in ("t", "new"):
            bench.committer.drain(table)
        assert {f.result(timeout=10).state for f in futures} == {"committed"}
    bench.close()
