"""What a worker tells Spark: pure, from the settings; docs/spark.md gives the reasons."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from deltaq.tasks.settings import Settings
from deltaq.worker.spark_s3 import s3_conf, s3_options

_DELTA = "spark.databricks.delta."
CONF = {
    "spark.app.name": "deltaq",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # INT96, the default, loses the time zone and wraps around in 2262.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.session.timeZone": "UTC",
    # In a condition or a query of a caller ${env:HOME} is text.
    "spark.sql.variable.substitute": "false",
    # The defaults are 10,000 and 50 tasks for the smallest table.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8",
    f"{_DELTA}snapshotPartitions": "1",
    # A checkpoint in the middle of a commit takes 0.7 s.
    f"{_DELTA}properties.defaults.checkpointInterval": "100",
    f"{_DELTA}commit.idempotencyCheck.enabled": "true",
    f"{_DELTA}maxCommitAttempts": "20",
    # Delta's own store lets another JVM replace a commit of this one; see worker/java.
    "spark.delta.logStore.file.impl": "deltaq.LocalLogStore",
    # Staged files do not change, so the source of a merge may be read twice.
    f"{_DELTA}merge.materializeSource": "none",
    # Beside a long job a short one gets its share.
    "spark.scheduler.mode": "FAIR",
    # A worker lives for months: keep little of what is past, and no user interface.
    f"{_DELTA}delta.log.cacheSize": "200",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.ui.retainedExecutions": "10",
    "spark.ui.retainedJobs": "50",
    "spark.ui.retainedStages": "50",
    "spark.ui.retainedTasks": "500",
    "spark.cleaner.periodicGC.interval": "10min",
    "spark.sql.pyspark.jvmStacktrace.enabled": "false",
    "spark.log.level": "ERROR",
}
#: With threads of this machine as executors.
LOCAL = {
    # The default of 200 is for clusters.
    "spark.sql.shuffle.partitions": "4",
}
#: Lists to which a user's value is added; without ours there is no Delta.
_JOINED = ("spark.jars", "spark.sql.extensions")
#: A driver in a pod has an address of its own, so its ports can be fixed, for network policies.
_DRIVER_PORTS = {"spark.driver.port": "7078", "spark.driver.blockManager.port": "7079"}


def is_cluster(master: str) -> bool:
    """Tell whether executors are processes of their own, which may be on other machines."""
    return not re.match(r"local($|\[)", master)


def spark_conf(
    settings: Settings, jars: Sequence[Path], folder: Path, *, pod: str | None = None
) -> dict[str, str]:
    """Make all settings of a worker's Spark.

    There may be secrets in it: it goes into a file of settings that only this user may read.

    Args:
        settings: Of the worker.
        jars: Those of Delta, and ours.
        folder: A private folder on this machine.
        pod: The worker's, when it runs in Kubernetes.
    """
    master = settings.spark_master
    ours = {
        **CONF,
        "spark.master": master,
        "spark.driver.memory": settings.spark_memory,
        "spark.jars": ",".join(map(str, jars)),
        "spark.sql.warehouse.dir": (folder / "warehouse").as_uri(),
        "spark.local.dir": str(folder),
    }
    if master.startswith("local"):
        # No look-up of the machine's name, which fails on laptops that change networks.
        ours |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    ours |= cluster_conf(settings, pod=pod) if is_cluster(master) else LOCAL
    if options := s3_options(settings):
        ours |= s3_conf(options)
    joined = {
        key: f"{ours[key]},{settings.spark_conf[key]}"
        for key in _JOINED
        if key in settings.spark_conf
    }
    return {**ours, **settings.spark_conf, **joined}


def cluster_conf(settings: Settings, *, pod: str | None = None) -> dict[str, str]:
    """Make the settings by which a cluster gives executors; arguments as :func:`spark_conf`."""
    conf = {
        "spark.driver.host": settings.spark_driver_host,
        "spark.executor.memory": settings.spark_executor_memory,
        **_executors(settings),
    }
    if settings.spark_master.startswith("k8s://"):
        conf |= _kubernetes(settings, pod)
    return {key: str(value) for key, value in conf.items() if value is not None}


def _executors(settings: Settings) -> dict[str, object]:
    cores, wanted, most = (
        settings.spark_executor_cores,
        settings.spark_executors,
        settings.spark_executors_max,
    )
    if most is not None:
        return {
            "spark.executor.cores": cores or 1,
            "spark.dynamicAllocation.enabled": "true",
            # Else a cluster needs a shuffle service of its own before it may take executors back.
            "spark.dynamicAllocation.shuffleTracking.enabled": "true",
            # Delta keeps the state of tables in executors, and a merge leaves rows of its shuffle:
            # Spark would never take back one that has either.
            "spark.dynamicAllocation.executorIdleTimeout": "1min",
            "spark.dynamicAllocation.cachedExecutorIdleTimeout": "5min",
            "spark.dynamicAllocation.shuffleTracking.timeout": "5min",
            "spark.dynamicAllocation.minExecutors": wanted or 0,
            "spark.dynamicAllocation.maxExecutors": most,
        }
    if wanted is None:
        return {"spark.executor.cores": cores}
    conf: dict[str, object] = {
        "spark.executor.cores": cores or 1,
        "spark.executor.instances": wanted,
    }
    if settings.spark_master.startswith(("spark://", "local-cluster[")):
        conf["spark.cores.max"] = wanted * (cores or 1)  # a standalone master counts cores
    return conf


def _kubernetes(settings: Settings, pod: str | None) -> dict[str, str | None]:
    conf = {
        "spark.kubernetes.container.image": settings.spark_image,
        "spark.kubernetes.namespace": settings.spark_namespace,
    }
    if settings.spark_claim is not None:
        volume = "spark.kubernetes.executor.volumes.persistentVolumeClaim.lake."
        conf[f"{volume}options.claimName"] = settings.spark_claim
        conf[f"{volume}mount.path"] = str(settings.lake)
    if pod is not None:
        # Kubernetes then removes the executors of a worker that is gone.
        conf |= {"spark.kubernetes.driver.pod.name": pod, **_DRIVER_PORTS}
    return conf
