"""Checks of this machine: Python, what is installed, Java, Delta's JARs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterator

from deltaq.tasks.errors import ClusterLost, ConfigurationError
from deltaq.tasks.settings import Settings
from deltaq.worker.doctor.finding import Finding, fine, warning, wrong
from deltaq.worker.jars import jar_sets, missing_jars, some_of
from deltaq.worker.java import find_java
from deltaq.worker.spark_cluster import check_master
from deltaq.worker.spark_conf import is_cluster

#: Module and distribution of what only workers need, with and without Spark.
_NATIVE = (("deltalake", "deltalake"), ("sqlglot", "sqlglot"), ("psutil", "psutil"))
_SPARK = (("pyspark", "pyspark"), ("delta", "delta-spark"))


def check_machine(settings: Settings) -> Iterator[Finding]:
    """Check whether clients, and workers if they are installed, can run here."""
    yield fine("python", f"{platform.python_version()}, deltaq {_version('deltaq')}")
    needed = _NATIVE + (_SPARK if settings.spark == "on" else ())
    missing = [name for module, name in needed if importlib.util.find_spec(module) is None]
    if len(missing) == len(needed):
        yield fine("worker", "not installed here, as on a machine for clients only")
        return
    if missing:
        yield wrong(
            "worker",
            f"a worker lacks {some_of(missing)}",
            "pip install 'deltaq[worker]', or spark=off to do without Spark",
        )
        return
    yield fine("worker", ", ".join(f"{name} {_version(name)}" for _, name in needed))
    if settings.spark == "on":
        yield from _check_java(settings)
        if is_cluster(settings.spark_master):
            yield _check_cluster(settings.spark_master)
    else:
        yield fine("java", "not needed: spark is off")


def _check_java(settings: Settings) -> Iterator[Finding]:
    try:
        java = find_java()
    except ConfigurationError as exc:
        yield wrong("java", str(exc), "or set spark=off to do without Spark and Java")
        return
    yield fine("java", f"{java.major}, {java.executable}")
    try:
        missing = [n for jars in jar_sets(settings) for n in missing_jars(settings.jars, jars)]
    except OSError as exc:
        yield wrong("jars", f"{settings.jars}: {exc.strerror}", "set 'jars' to a readable folder")
        return
    if missing:
        yield warning(
            "jars",
            f"{settings.jars} lacks {some_of(missing)}",
            "the first worker with Spark fetches them from Maven Central; without a network, "
            "put them there",
        )
    else:
        yield fine("jars", f"all in {settings.jars}")


def _check_cluster(master: str) -> Finding:
    try:
        check_master(master)
    except ClusterLost as exc:
        return wrong("cluster", exc.message, "requests that need Spark wait until it is there")
    return fine("cluster", master)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(run from its source)"
