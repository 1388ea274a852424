"""The JVM that Spark runs in: starts it as a process of ours, so that it can be ended.

pyspark's own launcher hands out the process only when it is up, lets it write on the
worker's terminal and shows every setting, secrets included, in the list of processes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from deltaq.tasks.errors import EngineUnavailable
from deltaq.worker.java import Java

#: Everything that the JVM prints, one record a line.
_spark_log = logging.getLogger("deltaq.spark")
#: Seconds until the gateway must be up; it takes two or three.
_GATEWAY_WITHIN = 120.0
#: Seconds that Spark may take to stop before it is killed.
_STOP_WITHIN = 5.0
#: Seconds between looks at a starting process.
_POLL = 0.05
_PROPERTIES = "spark.properties"
#: Lines kept to say why a JVM died.
_LAST_WORDS = 40


class Jvm:
    """A running JVM with Spark's gateway."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._listener = threading.Thread(target=self._listen, name="spark-log", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def wait(self) -> None:
        """Wait until the process has ended."""
        self._process.wait()

    @property
    def last_words(self) -> list[str]:
        """The last lines that it printed."""
        return list(self._last_words)

    def obituary(self) -> str:
        """Say how it ended and what it said last."""
        self._listener.join(timeout=1.0)
        words = [line for line in self._last_words if not line.lstrip().startswith("at ")]
        return f"exit code {self._process.poll()}, last words: {' | '.join(words[-3:]) or 'none'}"

    def stop(self) -> None:
        """End the process, in order if it can be done soon, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._listener.join(timeout=1.0)
        if self._process.stdin:
            self._process.stdin.close()

    def _listen(self) -> None:
        output: IO[str] = self._process.stdout  # type: ignore[assignment]  # it is a pipe
        with output:
            for line in output:
                self._last_words.append(line.rstrip())
                _spark_log.debug("%s", line.rstrip())


def launch(java: Java, conf: Mapping[str, str], folder: Path) -> tuple[Jvm, Path]:
    """Start a JVM with Spark's gateway; it dies with this process.

    Args:
        java: What runs it.
        conf: Spark's settings.
        folder: A private folder for its settings and the answer.

    Returns:
        The JVM and the file in which it will tell where its gateway is.
    """
    import pyspark

    home = Path(pyspark.__file__).parent
    if conf.get("spark.master", "").startswith("local-cluster["):
        home = _linked(home, folder / "spark")
    answer = folder / "gateway"
    properties = folder / _PROPERTIES
    properties.touch(mode=0o600)
    properties.write_text("".join(f"{key}={_escaped(value)}\n" for key, value in conf.items()))
    environment = {
        # Spark has no use for the settings of deltaq, which may be passwords.
        **{name: value for name, value in os.environ.items() if not name.startswith("DELTAQ_")},
        "JAVA_HOME": str(java.executable.resolve().parent.parent),
        "SPARK_HOME": str(home),
        "SPARK_CONNECT_MODE": "0",
        "_PYSPARK_DRIVER_CONN_INFO_PATH": str(answer),
    }
    process = subprocess.Popen(
        [home / "bin" / "spark-submit", "--properties-file", properties, "pyspark-shell"],
        stdin=subprocess.PIPE,  # the JVM ends when it closes, thus with this process
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        cwd=folder,  # what Spark drops into its working directory is removed with it
        start_new_session=True,  # Ctrl-C is for the worker, which stops Spark in order
    )
    return Jvm(process), answer


def _linked(home: Path, folder: Path) -> Path:
    """Make another home of Spark: the workers of a local-cluster put down their files in it."""
    folder.mkdir()
    for entry in home.iterdir():
        (folder / entry.name).symlink_to(entry)
    return folder


def connect_gateway(jvm: Jvm, answer: Path, abort: threading.Event) -> Any:
    """Wait until the gateway is up and connect to it.

    Raises:
        EngineUnavailable: The JVM died, does not answer, or ``abort`` was set.
    """
    from pyspark.java_gateway import launch_gateway

    deadline = time.monotonic() + _GATEWAY_WITHIN
    while not answer.exists():
        if abort.wait(_POLL):
            raise EngineUnavailable("Spark is being stopped")
        if not jvm.alive:
            raise EngineUnavailable(f"Spark's JVM did not start: {jvm.obituary()}")
        if time.monotonic() > deadline:
            raise EngineUnavailable(f"Spark's JVM did not answer within {_GATEWAY_WITHIN:.0f} s")
    with answer.open("rb") as told:  # as pyspark's launcher reads it
        (port,) = struct.unpack("!i", told.read(4))
        (length,) = struct.unpack("!i", told.read(4))
        secret = told.read(length).decode()
    answer.unlink()
    (answer.parent / _PROPERTIES).unlink()  # there may be passwords in it
    with _in_environment(PYSPARK_GATEWAY_PORT=str(port), PYSPARK_GATEWAY_SECRET=secret):
        return launch_gateway()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _in_environment(**variables: str) -> Iterator[None]:
    # The documented way to have pyspark join a running JVM.
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)


def _escaped(value: str) -> str:
    """Escape a value for a file of Java properties."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
