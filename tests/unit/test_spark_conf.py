"""What Spark is told, for each kind of master."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deltaq.tasks.errors import ClusterLost, ConfigurationError
from deltaq.tasks.settings import load_settings
from deltaq.worker.spark_cluster import check_master
from deltaq.worker.spark_conf import cluster_conf, is_cluster, spark_conf

VOLUME = "spark.kubernetes.executor.volumes.persistentVolumeClaim.lake."
K8S = {"spark_master": "k8s://https://api:6443", "spark_image": "apache/spark:4.2.0"}


def conf_of(*, pod: str | None = None, lake: str = "/lake", **settings: Any) -> dict[str, str]:
    return cluster_conf(load_settings(lake=lake, **settings), pod=pod)


@pytest.mark.parametrize(
    ("master", "cluster"),
    [
        ("local", False),
        ("local[4]", False),
        ("local[*]", False),
        ("local-cluster[2,1,1024]", True),
        ("spark://host:7077", True),
        ("k8s://https://api:6443", True),
        ("yarn", True),
    ],
)
def test_executors_of_their_own_make_a_cluster(master: str, cluster: bool) -> None:
    settings = load_settings(lake="/lake", spark_master=master, spark_image="apache/spark:4.2.0")
    conf = spark_conf(settings, [], Path("/private"))

    assert is_cluster(master) is cluster
    # Few partitions are for one machine; a cluster has Spark's default.
    assert ("spark.sql.shuffle.partitions" not in conf) is cluster
    assert (conf.get("spark.driver.host") == "127.0.0.1") is master.startswith("local")


@pytest.mark.parametrize("master", ["spark:/host", "locl[2]", "mesos://host", "local-cluster"])
def test_another_master_is_refused(master: str) -> None:
    with pytest.raises(ConfigurationError, match=r"spark_master.*must be local\[n\], spark://"):
        load_settings(lake="/lake", spark_master=master)


def test_a_standalone_master_gives_all_it_has_unless_told_otherwise() -> None:
    assert conf_of(spark_master="spark://host:7077") == {}


def test_a_standalone_master_is_told_how_many_cores_the_executors_have() -> None:
    conf = conf_of(
        spark_master="spark://host:7077",
        spark_executors=3,
        spark_executor_cores=4,
        spark_executor_memory="6g",
        spark_driver_host="worker-1",
    )

    assert conf == {
        "spark.driver.host": "worker-1",
        "spark.executor.memory": "6g",
        "spark.executor.cores": "4",
        "spark.executor.instances": "3",
        "spark.cores.max": "12",
    }


def test_executors_come_and_go_between_two_numbers() -> None:
    conf = conf_of(spark_master="spark://host:7077", spark_executors_max=8)

    assert conf == {
        "spark.executor.cores": "1",
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.executorIdleTimeout": "1min",
        "spark.dynamicAllocation.cachedExecutorIdleTimeout": "5min",
        "spark.dynamicAllocation.shuffleTracking.timeout": "5min",
        "spark.dynamicAllocation.minExecutors": "0",
        "spark.dynamicAllocation.maxExecutors": "8",
    }
    least = conf_of(spark_master="spark://host:7077", spark_executors=2, spark_executors_max=8)
    assert least["spark.dynamicAllocation.minExecutors"] == "2"
    with pytest.raises(ConfigurationError, match=r"spark_executors_max.*fewer than"):
        conf_of(spark_executors=9, spark_executors_max=8)


def test_pods_get_an_image_a_namespace_and_the_lake() -> None:
    conf = conf_of(
        **K8S, spark_executors=2, spark_namespace="deltaq", spark_claim="deltaq-lake", lake="/data"
    )

    assert conf == {
        "spark.executor.cores": "1",
        "spark.executor.instances": "2",
        "spark.kubernetes.container.image": "apache/spark:4.2.0",
        "spark.kubernetes.namespace": "deltaq",
        f"{VOLUME}options.claimName": "deltaq-lake",
        f"{VOLUME}mount.path": "/data",
    }


def test_a_worker_in_a_pod_owns_its_executors_and_has_ports_that_a_policy_can_name() -> None:
    conf = conf_of(**K8S, spark_driver_host="10.1.2.3", pod="deltaq-worker-5d4f-x2x")

    assert conf["spark.kubernetes.driver.pod.name"] == "deltaq-worker-5d4f-x2x"
    assert conf["spark.driver.host"] == "10.1.2.3"
    assert conf["spark.driver.port"] == "7078"
    assert conf["spark.driver.blockManager.port"] == "7079"


def test_pods_need_an_image() -> None:
    with pytest.raises(ConfigurationError, match="spark_image"):
        conf_of(spark_master="k8s://https://api:6443")


def test_a_claim_is_for_a_lake_on_a_file_system() -> None:
    with pytest.raises(ConfigurationError, match="spark_claim"):
        conf_of(**K8S, spark_claim="deltaq-lake", lake="s3://bucket/lake")


def test_what_is_in_spark_conf_goes_before_ours() -> None:
    settings = load_settings(
        lake="/lake",
        spark_master="spark://host:7077",
        spark_executors=2,
        spark_conf={"spark.cores.max": "7", "spark.jars": "/mine.jar"},
    )

    conf = spark_conf(settings, [Path("/ours.jar")], Path("/private"))

    assert conf["spark.cores.max"] == "7"
    assert conf["spark.jars"] == "/ours.jar,/mine.jar"


@pytest.mark.parametrize(
    "master", ["spark://127.0.0.1:1", "spark://127.0.0.1:1,127.0.0.1:2", "k8s://https://[::1]:1"]
)
def test_a_master_that_nobody_answers_for_is_told_at_once(master: str) -> None:
    with pytest.raises(ClusterLost, match=r"no Spark master at spark_master=.*refused") as caught:
        check_master(master)

    assert caught.value.retryable


@pytest.mark.parametrize("master", ["local[2]", "local-cluster[2,1,1024]", "yarn"])
def test_a_master_without_an_address_is_not_asked(master: str) -> None:
    check_master(master)
