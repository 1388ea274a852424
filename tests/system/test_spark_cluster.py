"""A worker whose executors are a standalone cluster's, on what might be other machines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyspark
import pytest

from deltaq.client import Client, Future, Outcome, State
from deltaq.tasks.staging import StagingArea
from deltaq.worker import System, embedded
from deltaq.worker.lake import Lake
from tests.support.log import committed_requests
from tests.support.s3 import S3Server
from tests.support.spark_cluster import SparkCluster
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE = 300.0
#: Takes Spark seconds for some dozen rows.
_SLOW = "aggregate(sequence(0, 300000), 0L, (sum, x) -> sum + hash(x, k)) = 5"
#: They tell how long an executor is kept that does nothing: one that has nothing, the state of
#: tables, or rows of a shuffle.
_IDLE = ("executorIdleTimeout", "cachedExecutorIdleTimeout", "shuffleTracking.timeout")


def rows(first: int, count: int, word: str) -> pa.Table:
    return pa.table({"k": range(first, first + count), "word": [word] * count})


@pytest.fixture(scope="module")
def cluster() -> Iterator[SparkCluster]:
    with SparkCluster(other_disk=True) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def system(cluster: SparkCluster, s3_server: S3Server) -> Iterator[System]:
    """One worker for the module, which tables are all the cluster's; lake and staging are in S3."""
    settings = cluster.settings(spark_executors_wait=12.0, engine="spark", **s3_server.settings())
    with embedded(f"s3://{s3_server.bucket}/cluster", **settings) as system:
        system.wait_ready(PATIENCE)
        yield system
    shutil.rmtree(system.log.parent)


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    with system.client() as client:
        yield client


def words(client: Client, table: str) -> dict[str, int]:
    """Count the rows of each word."""
    found = client.read(table).result(PATIENCE).group_by("word").aggregate([("k", "count")])
    return dict(zip(*(found[name].to_pylist() for name in ("word", "k_count")), strict=True))


def test_an_executor_without_work_is_given_back_and_another_comes_with_work(
    cluster: SparkCluster, s3_server: S3Server
) -> None:
    soon = {f"spark.dynamicAllocation.{name}": "5s" for name in _IDLE}
    settings: dict[str, Any] = {"engine": "spark", "spark_conf": soon, **s3_server.settings()}
    settings |= cluster.settings(spark_executors=0, spark_executors_max=2)
    with embedded(f"s3://{s3_server.bucket}/idle", **settings) as system:
        system.wait_ready(PATIENCE)
        with system.client() as client:
            client.append("prices", rows(0, 5, "old")).result(PATIENCE)
            before = set(cluster.executors())
            wait_until(lambda: not cluster.executors(), within=PATIENCE)

            merge = client.merge("prices", rows(3, 4, "new"), keys=["k"]).result(PATIENCE)

            assert merge.engine == "spark"
            assert before.isdisjoint(cluster.executors())
            assert words(client, "prices") == {"old": 3, "new": 4}
            wait_until(lambda: not cluster.executors(), within=PATIENCE)
    shutil.rmtree(system.log.parent)


def test_executors_with_other_disks_write_and_read_through_what_is_shared(
    client: Client, system: System, cluster: SparkCluster
) -> None:
    table = "prices"
    client.append(table, rows(0, 5, "old")).result(PATIENCE)
    # Merges in one commit go through a file that the worker writes, and the cluster reads.
    merges = [client.merge(table, rows(n, 2, f"by {n}"), keys=["k"]) for n in range(3, 9)]
    assert [future.result(PATIENCE).engine for future in merges] == ["spark"] * 6
    assert words(client, table) == {"old": 3, **{f"by {n}": 1 for n in range(3, 8)}, "by 8": 2}
    client.merge_scd2("versions", rows(0, 3, "old"), keys=["k"]).result(PATIENCE)
    client.merge_scd2("versions", rows(0, 1, "new"), keys=["k"]).result(PATIENCE)
    client.delete(table, where="k < 3").result(PATIENCE)

    assert client.sql(f"SELECT count(*) AS n FROM {table}").result(PATIENCE)["n"][0].as_py() == 7
    with client.scan("versions") as scan:
        assert sum(batch.num_rows for batch in scan) == 4
    assert cluster.applications() == ["deltaq"]
    staging = StagingArea(system.settings.staging_root)
    assert list(staging.old_work()) == []


def test_a_cluster_of_processes_beside_the_driver_leaves_nothing_behind(lake: Path) -> None:
    settings: dict[str, Any] = {"engine": "spark", "spark_master": "local-cluster[2,1,1024]"}
    with embedded(lake, **settings) as system:
        system.wait_ready(PATIENCE)
        with system.client() as client:
            client.append("prices", rows(0, 3, "old")).result(PATIENCE)
            merges = [client.merge("prices", rows(n, 2, "new"), keys=["k"]) for n in (1, 2)]
            assert {future.result(PATIENCE).engine for future in merges} == {"spark"}
            assert words(client, "prices") == {"old": 1, "new": 3}
    assert not (Path(pyspark.__file__).parent / "work").exists()
    assert list((lake / ".deltaq" / "work").iterdir()) == []


def slow_merge(client: Client, table: str) -> Future[Outcome]:
    """Have executors be busy for some seconds."""
    client.append(table, rows(0, 20, "old")).result(PATIENCE)
    return client.merge(table, rows(10, 20, "new"), keys=["k"], delete_when=_SLOW)


def wait_until_busy(cluster: SparkCluster, future: Future[Outcome]) -> psutil.Process:
    """Wait until an executor works; return it."""
    spent = {executor: executor.cpu_times().user for executor in cluster.executors()}

    def busy() -> list[psutil.Process]:
        return [e for e, before in spent.items() if e.cpu_times().user > before + 1.0]

    wait_until(busy, within=PATIENCE)
    assert not future.done()
    return busy()[0]


def check_merged_once(
    client: Client, system: System, table: str, future: Future[Outcome], version: int = 1
) -> None:
    assert words(client, table) == {"old": 10, "new": 20}
    found = [id for _, _, id in committed_requests(Lake(system.settings.lake).path(table))]
    assert found.count(future.request_id) == 1
    assert client.history(table).num_rows == version + 1


def test_an_executor_that_dies_in_the_middle_of_a_merge_costs_a_retry_of_its_tasks(
    client: Client, system: System, cluster: SparkCluster
) -> None:
    future = slow_merge(client, "lost_executor")
    wait_until_busy(cluster, future).kill()

    outcome = future.result(PATIENCE)

    assert (outcome.state, outcome.version, outcome.attempt) == (State.COMMITTED, 1, 1)
    check_merged_once(client, system, "lost_executor", future)
    wait_until(lambda: len(cluster.executors()) == 2, within=PATIENCE)


def test_a_cluster_that_is_lost_costs_a_try_and_is_joined_again(
    client: Client, system: System, cluster: SparkCluster
) -> None:
    future = slow_merge(client, "lost_cluster")
    wait_until_busy(cluster, future)
    cluster.kill()
    wait_until(lambda: "gave no executors for 12 s" in system.log.read_text(), within=PATIENCE)
    assert not future.done()

    cluster.start()
    outcome = future.result(PATIENCE)

    assert (outcome.state, outcome.version) == (State.COMMITTED, 1)
    check_merged_once(client, system, "lost_cluster", future)
    # Nobody's request is to blame for that.
    assert "died" not in system.log.read_text()
