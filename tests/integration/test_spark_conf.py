"""Spark knows the settings that it is told."""

from __future__ import annotations

from typing import Any

import pytest

from deltaq.tasks.settings import Settings, load_settings
from deltaq.worker.spark_conf import cluster_conf
from deltaq.worker.warm import WarmSpark

pytestmark = pytest.mark.timeout(300)

STANDALONE = load_settings(
    lake="/lake", spark_master="spark://host:7077", spark_executors=2, spark_executor_memory="2g"
)
KUBERNETES = load_settings(
    lake="/lake",
    spark_master="k8s://https://api:6443",
    spark_executors_max=9,
    spark_image="apache/spark:4.2.0",
    spark_namespace="deltaq",
    spark_claim="deltaq-lake",
    spark_driver_host="10.0.0.7",
)
#: What comes after it is the name of a volume.
VOLUMES = "spark.kubernetes.executor.volumes."


@pytest.mark.parametrize("settings", [STANDALONE, KUBERNETES], ids=["standalone", "kubernetes"])
def test_every_setting_of_a_cluster_is_one_that_spark_knows(
    warm_spark: WarmSpark, settings: Settings
) -> None:
    jvm: Any = warm_spark.session(timeout=240)._jvm
    kubernetes = "org.apache.spark.deploy.k8s.Config$"  # whose settings are known once it is loaded
    assert getattr(jvm.java.lang.Class.forName(kubernetes), "getName")() == kubernetes  # noqa: B009
    found = jvm.org.apache.spark.internal.config.ConfigEntry

    keys = [key for key in cluster_conf(settings, pod="worker-1") if not key.startswith(VOLUMES)]
    assert len(keys) > 3
    assert [key for key in keys if found.findEntry(key) is None] == []
