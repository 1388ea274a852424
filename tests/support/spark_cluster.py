"""A Spark cluster on this machine: a standalone master and workers, as pyspark brings them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pyspark

from deltaq.worker.java import find_java
from deltaq.worker.processes import Spawner
from tests.support.prometheus import free_port, get
from tests.support.waiting import wait_until

_HOME = Path(pyspark.__file__).parent
_ON_OTHER_DISK = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /tmp && exec "$@"', "sh"]
_EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
#: Seconds until all workers must be known to the master; on a quiet machine it takes five.
_UP_WITHIN = 240.0


def _may_hide_tmp() -> bool:
    """Tell whether this user may give processes another ``/tmp``, and Spark is not in this one."""
    seen = [*_ON_OTHER_DISK, "test", "-x", str(_HOME / "bin" / "spark-class")]
    return subprocess.run(seen, capture_output=True, check=False).returncode == 0


class SparkCluster:
    """A master and workers on free ports of this machine.

    Args:
        workers: How many; each is a process that starts executors.
        cores: Of each worker, for all its executors.
        memory: Of each worker, likewise.
        other_disk: Give its processes a ``/tmp`` of their own, as on other machines, where this one
            allows that.
    """

    def __init__(
        self, *, workers: int = 2, cores: int = 1, memory: str = "2g", other_disk: bool = False
    ) -> None:
        self._before = _ON_OTHER_DISK if other_disk and _may_hide_tmp() else []
        self.folder = Path(tempfile.mkdtemp(prefix="dq-spark-", dir="/tmp"))
        self._wanted, self._cores, self._memory = workers, cores, memory
        self._port, self._pages = free_port(), free_port()
        self._spawner = Spawner()
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"spark://127.0.0.1:{self._port}"

    def settings(self, **others: Any) -> dict[str, Any]:
        """Name the settings of a worker that uses all of it."""
        return {
            "spark_master": self.url,
            "spark_executors": self._wanted,
            "spark_executor_cores": self._cores,
            "spark_driver_host": "127.0.0.1",
            **others,
        }

    def start(self) -> None:
        """Start all of it; after a kill it has the same address."""
        pages = ("--webui-port", self._pages)
        self._run("master.Master", "127.0.0.1", "--port", self._port, *pages)
        wait_until(lambda: self._state() is not None, within=_UP_WITHIN, saying=self.log)
        given = ("--cores", self._cores, "--memory", self._memory, "--webui-port", 0)
        for number in range(self._wanted):
            work = self.folder / f"worker-{number}"
            # Executors read the disks of others at their address.
            self._run(
                "worker.Worker", f"127.0.1.{number + 1}", *given, "--work-dir", work, self.url
            )
        wait_until(self._is_whole, within=_UP_WITHIN, saying=self.log)

    def executors(self) -> list[psutil.Process]:
        """List the processes of executors."""
        found = []
        for process in self._processes:
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended this instant
                    if _EXECUTOR in child.cmdline():
                        found.append(child)
        return found

    def applications(self) -> list[str]:
        """Name the drivers that the master knows."""
        state = self._state() or {}
        return [app["name"] for app in state.get("activeapps", [])]

    def kill(self) -> None:
        """End all of it as a power cut would."""
        executors = self.executors()
        for process in self._processes:
            process.kill()
        for executor in executors:
            executor.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def log(self) -> str:
        """Read the last of what was logged."""
        return "\n".join((self.folder / "log").read_text().splitlines()[-20:])

    def _run(self, name: str, host: str, *arguments: object) -> None:
        environment = {
            **os.environ,
            "JAVA_HOME": str(find_java().executable.resolve().parent.parent),
            "SPARK_HOME": str(_HOME),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_LOCAL_IP": host,
            "SPARK_LOCAL_DIRS": str(self.folder / "local"),
        }
        main = (f"org.apache.spark.deploy.{name}", "--host", host)
        with (self.folder / "log").open("ab") as output:
            self._processes.append(
                self._spawner.spawn(
                    [
                        *self._before,
                        str(_HOME / "bin" / "spark-class"),
                        *main,
                        *map(str, arguments),
                    ],
                    env=environment,
                    output=output,
                )
            )

    def _state(self) -> Any:
        try:
            return json.loads(get(f"http://127.0.0.1:{self._pages}/json/")[1])
        except (OSError, ValueError):
            return None

    def _is_whole(self) -> bool:
        state = self._state() or {}
        alive = [w for w in state.get("workers", []) if w["state"] == "ALIVE"]
        return len(alive) == self._wanted

    def __enter__(self) -> SparkCluster:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._spawner.close()
        shutil.rmtree(self.folder, ignore_errors=True)
