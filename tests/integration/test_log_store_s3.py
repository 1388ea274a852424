"""Our log stores: of all who put the same entry one succeeds, and that entry stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from py4j.protocol import Py4JJavaError

from deltaq.tasks.settings import Settings
from deltaq.worker.spark_s3 import s3_conf
from tests.support.s3 import S3Server
from tests.support.s3_faults import CONFLICT, Cut, is_conditional_put
from tests.support.s3_proxy import S3Proxy
from tests.support.store_jvm import StoreJvm, hadoop_conf, store_jvm

OURS, STOCK = "deltaq.S3LogStore", "io.delta.storage.S3SingleDriverLogStore"
LOCAL = "deltaq.LocalLogStore"
#: Tells whether it was put.
Put: TypeAlias = Callable[[], bool]


def conf_of(server: S3Server, endpoint: str | None = None) -> dict[str, str]:
    return hadoop_conf(s3_conf(server.options(endpoint)))


@pytest.fixture(scope="module")
def jvms(spark_settings: Settings, s3_server: S3Server) -> Iterator[tuple[StoreJvm, StoreJvm]]:
    """Two processes with our store."""
    with ExitStack() as stack:
        conf = conf_of(s3_server)
        first, second = (
            stack.enter_context(store_jvm(spark_settings, OURS, conf)) for _ in range(2)
        )
        yield first, second


@pytest.fixture(scope="module")
def proxied(spark_settings: Settings, s3_server: S3Server) -> Iterator[tuple[S3Proxy, StoreJvm]]:
    """A process with our store behind a proxy."""
    with (
        S3Proxy(s3_server) as proxy,
        store_jvm(spark_settings, OURS, conf_of(s3_server, proxy.endpoint)) as jvm,
    ):
        yield proxy, jvm


@pytest.fixture
def proxy(proxied: tuple[S3Proxy, StoreJvm]) -> Iterator[S3Proxy]:
    """The proxy of that process, which does no harm unless it is told to."""
    proxied[0].forget()
    yield proxied[0]
    proxied[0].heal()


def race(*contenders: Put) -> list[bool]:
    """Have all put at the same moment; tell who was told that it had put."""
    start = threading.Barrier(len(contenders))
    told: list[bool | BaseException] = [False] * len(contenders)

    def run(number: int, put: Put) -> None:
        start.wait(20)
        try:
            told[number] = put()
        except BaseException as exc:
            told[number] = exc

    threads = [threading.Thread(target=run, args=each) for each in enumerate(contenders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in told:
        if isinstance(answer, BaseException):
            raise answer
    return [bool(answer) for answer in told]


def entry_of(folder: str, version: int) -> str:
    return f"{folder}/_delta_log/{version:020}.json"


def race_of_two(first: StoreJvm, second: StoreJvm, entry: str, file: Path) -> tuple[Any, str]:
    """Race for an entry; tell what both were told, and whose it is."""
    told = race(
        first.ready_to_put(entry, first.lines("first")),
        second.ready_to_put(entry, second.lines("second")),
    )
    return told, file.read_text().strip()


def as_hadoop(url: str) -> str:
    return url.replace("s3://", "s3a://")


def in_bucket(url: str) -> str:
    return url.removeprefix(f"s3://{S3Server.bucket}/")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_of_two_processes_that_put_an_entry_into_s3_one_succeeds(
    jvms: tuple[StoreJvm, StoreJvm], s3_server: S3Server, s3_url: str
) -> None:
    won = {"first": 0, "second": 0}
    for version in range(150):
        file = s3_server.file(entry_of(in_bucket(s3_url), version))
        told, content = race_of_two(*jvms, entry_of(as_hadoop(s3_url), version), file)
        assert told == [content == "first", content == "second"], version
        won[content] += 1
    assert min(won.values()) > 10, f"{won}: that was no race"


@pytest.mark.timeout(180)
def test_of_spark_and_delta_rs_one_commits_a_version_in_s3(
    jvms: tuple[StoreJvm, StoreJvm], s3_server: S3Server, s3_url: str
) -> None:
    options = s3_server.storage_options()
    write_deltalake(s3_url, pa.table({"n": [1]}), storage_options=options)
    table = DeltaTable(s3_url, storage_options=options)
    lines = s3_server.file(entry_of(in_bucket(s3_url), 0)).read_text().splitlines()
    commit_info = next(line for line in lines if '"commitInfo"' in line)
    won = {"spark": 0, "delta-rs": 0}
    for version in range(1, 101):
        entry = entry_of(as_hadoop(s3_url), version)
        ledger = f'{{"txn":{{"appId":"spark","version":{version}}}}}'
        told = race(
            jvms[0].ready_to_put(entry, jvms[0].lines(commit_info, ledger)),
            partial(commit, table, version, late=version % 10 / 1000),
        )
        assert sorted(told) == [False, True], version
        table.update_incremental()
        assert table.version() == version
        winner = "spark" if told[0] else "delta-rs"
        assert table.transaction_version(winner) == version
        won[winner] += 1
    assert min(won.values()) > 5, f"{won}: that was no race"


def commit(table: DeltaTable, version: int, *, late: float) -> bool:
    """Commit with delta-rs, so many seconds late: it is faster than a JVM that is still cold."""
    time.sleep(late)
    properties = CommitProperties(
        max_commit_retries=0, app_transactions=[Transaction("delta-rs", version)]
    )
    try:
        table.create_write_transaction([], "append", table.schema(), commit_properties=properties)
    except CommitFailedError:
        return False
    return True


@pytest.mark.timeout(180)
def test_of_two_processes_that_put_an_entry_on_a_disk_one_succeeds(
    spark_settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "_delta_log").mkdir()
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(store_jvm(spark_settings, LOCAL, {})) for _ in range(2)
        )
        for version in range(250):
            file = Path(entry_of(str(tmp_path), version))
            told, content = race_of_two(first, second, file.as_uri(), file)
            assert told == [content == "first", content == "second"], version


@pytest.mark.timeout(180)
def test_the_store_that_comes_with_delta_loses_entries_in_the_same_race(
    spark_settings: Settings, s3_server: S3Server, s3_url: str
) -> None:
    lost = 0
    with ExitStack() as stack:
        conf = conf_of(s3_server)
        first, second = (
            stack.enter_context(store_jvm(spark_settings, STOCK, conf)) for _ in range(2)
        )
        for version in range(250):
            file = s3_server.file(entry_of(in_bucket(s3_url), version))
            told, _ = race_of_two(first, second, entry_of(as_hadoop(s3_url), version), file)
            lost += all(told)
            if lost:
                return
    raise AssertionError("the race above proves nothing: it is won by any store")


def test_an_entry_of_the_log_in_s3_is_put_whole(
    jvms: tuple[StoreJvm, StoreJvm], s3_server: S3Server, s3_url: str
) -> None:
    entry, file = entry_of(as_hadoop(s3_url), 7), s3_server.file(entry_of(in_bucket(s3_url), 7))

    assert jvms[0].put(entry, '{"a":"é"}', '{"b":2}')
    assert file.read_text() == '{"a":"é"}\n{"b":2}\n'
    assert not jvms[0].put(entry, "another")
    assert file.read_text() == '{"a":"é"}\n{"b":2}\n'
    assert jvms[0].put(entry, "another", overwrite=True)
    assert file.read_text() == "another\n"
    assert [found.name for found in file.parent.iterdir()] == [file.name]


def test_a_server_of_other_makers_refuses_the_second_put_as_well(
    spark_settings: Settings, moto_server: S3Server, s3_url: str
) -> None:
    entry = entry_of(as_hadoop(s3_url), 0)

    with store_jvm(spark_settings, OURS, conf_of(moto_server)) as jvm:
        assert jvm.put(entry, "first")
        assert not jvm.put(entry, "second")


def test_an_entry_whose_lines_fail_is_not_put(
    jvms: tuple[StoreJvm, StoreJvm], s3_server: S3Server, s3_url: str
) -> None:
    lines = jvms[0].jvm.java.util.ArrayList()
    lines.extend(["one", "two"])
    failing = lines.iterator()
    lines.add("three")  # of which the iterator knows nothing

    with pytest.raises(Py4JJavaError, match="ConcurrentModificationException"):
        jvms[0].ready_to_put(entry_of(as_hadoop(s3_url), 0), failing)()

    assert not s3_server.file(entry_of(in_bucket(s3_url), 0)).exists()


@pytest.mark.parametrize("there", [False, True], ids=["nothing", "of-another"])
def test_a_conflict_that_the_server_tells_of_is_one_if_there_is_an_entry(
    proxied: tuple[S3Proxy, StoreJvm], proxy: S3Proxy, s3_url: str, there: bool
) -> None:
    entry = entry_of(as_hadoop(s3_url), 0)
    if there:
        put_of_another(proxy.server, s3_url)
    proxy.inflict(CONFLICT, only=is_conditional_put)

    if there:
        assert not proxied[1].put(entry, "ours")
    else:
        with pytest.raises(Py4JJavaError, match="ConditionalRequestConflict"):
            proxied[1].put(entry, "ours")


@pytest.mark.parametrize("there", [False, True], ids=["ours", "of-another"])
def test_a_put_whose_answer_was_lost_is_told_from_the_put_of_another(
    proxied: tuple[S3Proxy, StoreJvm], proxy: S3Proxy, s3_url: str, there: bool
) -> None:
    if there:
        put_of_another(proxy.server, s3_url)
    proxy.inflict(Cut.ANSWER, only=is_conditional_put, times=1)

    assert proxied[1].put(entry_of(as_hadoop(s3_url), 0), "ours") is not there

    content = proxy.server.file(entry_of(in_bucket(s3_url), 0)).read_text()
    assert content == ("of another\n" if there else "ours\n")
    assert sum(map(is_conditional_put, proxy.calls)) == 2


def put_of_another(server: S3Server, url: str) -> None:
    """Put an entry as a writer that knows nothing of ours."""
    key = entry_of(in_bucket(url), 0)
    server.client().put_object(Bucket=server.bucket, Key=key, Body=b"of another\n")
