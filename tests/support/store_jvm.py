"""A JVM with a log store of Delta and no Spark, which starts in a second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyspark
from py4j import java_gateway, protocol
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JJavaError

from deltaq.tasks.settings import Settings
from deltaq.worker.jars import LOG_STORE, provide_jars
from deltaq.worker.java import find_java

_SPARK = Path(pyspark.__file__).parent / "jars"


def hadoop_conf(conf: Mapping[str, str]) -> dict[str, str]:
    """Name settings of Spark as Hadoop gets them."""
    return {name.removeprefix("spark.hadoop."): value for name, value in conf.items()}


class StoreJvm:
    """A store in a process of its own.

    Args:
        jvm: The process.
        kind: Name of the store's class.
        conf: Of Hadoop.
    """

    def __init__(self, jvm: Any, kind: str, conf: Mapping[str, str]) -> None:
        self.jvm = jvm
        self.conf = jvm.org.apache.hadoop.conf.Configuration()
        for name, value in conf.items():
            self.conf.set(name, value)
        made = jvm.java.lang.Class.forName(kind).getConstructors()[0]
        arguments = jvm.java.util.ArrayList([self.conf]).toArray()
        self.store = made.newInstance(arguments)

    def put(self, path: str, *lines: str, overwrite: bool = False) -> bool:
        """Write an entry of a log; tell whether it was put, not refused as being there already."""
        return self.ready_to_put(path, self.lines(*lines), overwrite=overwrite)()

    def lines(self, *lines: str) -> Any:
        """Make an iterator of Java."""
        content = self.jvm.java.util.ArrayList()
        content.extend(lines)
        return content.iterator()

    def ready_to_put(self, path: str, lines: Any, *, overwrite: bool = False) -> Callable[[], bool]:
        """Prepare :meth:`put`, so that it is one call of Java."""
        place = self.jvm.org.apache.hadoop.fs.Path(path)

        def put() -> bool:
            try:
                self.store.write(place, lines, overwrite, self.conf)
            except Py4JJavaError as exc:
                kind = exc.java_exception.getClass().getName()
                if kind == "java.nio.file.FileAlreadyExistsException":
                    return False
                raise
            return True

        return put


@contextmanager
def store_jvm(settings: Settings, kind: str, conf: Mapping[str, str]) -> Iterator[StoreJvm]:
    """Start a JVM with a log store; its classes are those that a worker gives Spark."""
    java = find_java().executable
    jars = provide_jars(settings, java, threading.Event(), s3=True)
    port, secret, process = launch_gateway(
        jarpath=str(next(_SPARK.glob("py4j-*.jar"))),
        classpath=":".join(map(str, [*jars, LOG_STORE, _SPARK / "*"])),
        javaopts=["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"],
        java_path=str(java),
        die_on_exit=True,
        enable_auth=True,
        return_proc=True,
    )
    gateway = JavaGateway(
        gateway_parameters=GatewayParameters(port=port, auth_token=secret, auto_convert=True)
    )
    # Once there was a session of Spark, pyspark asks its JVM about the exceptions of all others.
    answers_to = java_gateway.get_return_value
    java_gateway.get_return_value = protocol.get_return_value
    try:
        yield StoreJvm(gateway.jvm, kind, conf)
    finally:
        java_gateway.get_return_value = answers_to
        gateway.shutdown()
        process.kill()
        process.stdin.close()
        process.wait()
