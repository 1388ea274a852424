"""Whether a Spark cluster is there, and gives executors. Spark itself would wait without end."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from deltaq.tasks.errors import ClusterLost

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Seconds that a master may take to accept a connection.
_CONNECT_WITHIN = 5.0
#: Seconds between looks at the executors.
_LOOK_EVERY = 2.0
_MASTER = re.compile(r"(?:spark|k8s)://(?:https?://)?(?P<hosts>[^/]+)")
_PORTS = {"spark": 7077, "k8s": 443}


def check_master(master: str) -> None:
    """Make sure that somebody listens where a cluster's master should be.

    Raises:
        ClusterLost: Nobody does. Spark would tell so after a minute, in other words.
    """
    found = _MASTER.match(master)
    if found is None:
        return
    problems = []
    for place in found["hosts"].split(","):
        host, _, port = place.rpartition(":") if ":" in place else (place, "", "")
        number = int(port) if port.isdigit() else _PORTS[master[: master.index(":")]]
        try:
            socket.create_connection((host.strip("[]"), number), _CONNECT_WITHIN).close()
        except OSError as exc:
            problems.append(f"{place}: {exc.strerror or exc}")
        else:
            return
    raise ClusterLost(
        f"no Spark master at spark_master={master}: {'; '.join(problems)}; start it, or correct "
        "the setting"
    )


class ExecutorWatch:
    """Looks whether a session that has work has executors, in a thread that ends with the JVM.

    Args:
        session: The session.
        master: Where its executors come from.
        patience: Seconds for which jobs may wait for the first executor.
        lost: Called with what is wrong, once.
    """

    def __init__(
        self,
        session: SparkSession,
        *,
        master: str,
        patience: float,
        lost: Callable[[ClusterLost], None],
    ) -> None:
        self._context = session.sparkContext
        self._master = master
        self._patience = patience
        self._lost = lost
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="spark-executors", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _run(self) -> None:
        since: float | None = None
        while not self._closed.wait(min(_LOOK_EVERY, self._patience / 2)):
            try:
                since = (since or time.monotonic()) if self._waits() else None
            except Exception:  # the JVM is gone, which whoever uses it finds
                return
            if since is not None and time.monotonic() - since > self._patience:
                self._lost(
                    ClusterLost(
                        f"spark_master={self._master} gave no executors for {self._patience:g} s: "
                        "its workers are gone, busy, or too small for spark_executor_memory and "
                        "spark_executor_cores"
                    )
                )
                return

    def _waits(self) -> bool:
        """Tell whether there are jobs and no executors."""
        context = self._context
        if not context.statusTracker().getActiveJobsIds():
            return False
        # The driver is in it, too.
        return int(context._jsc.sc().getExecutorMemoryStatus().size()) < 2
