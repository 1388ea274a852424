"""The warm SparkSession: one per worker, started in the background, replaced when it dies."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltaq.tasks.errors import ClusterLost, DeltaqError, EngineUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.jars import LOG_STORE, provide_jars
from deltaq.worker.java import find_java
from deltaq.worker.jvm import Jvm, connect_gateway, launch
from deltaq.worker.spark_cluster import ExecutorWatch, check_master
from deltaq.worker.spark_conf import is_cluster, spark_conf
from deltaq.worker.warm_up import warm_up

if TYPE_CHECKING:  # the import takes half a second, which start() spends in the background
    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)

#: Seconds after which a start that failed is tried again.
_TRY_AGAIN = 30.0
#: Seconds after which a JVM that died is replaced, unless somebody needs Spark sooner.
_REPLACED_AFTER = 5.0
#: What the JVM logs when a master takes all its executors away.
_ENDED_BY_CLUSTER = "Application has been killed"


class WarmState(StrEnum):
    """Where a WarmSpark stands."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


class WarmSpark:
    """Starts one SparkSession, warms it with real commits, and starts another if it dies.

    pyspark allows one per process. Every method may be called by any thread.

    Args:
        settings: Master, memory and further configuration of Spark.
        on_ready: Called, by a thread of its own, each time a session has become warm.
    """

    def __init__(self, settings: Settings, *, on_ready: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._changed = threading.Condition(threading.RLock())
        self._state = WarmState.STOPPED
        self._error: DeltaqError | None = None
        self._failed_at = 0.0
        self._told = ""  # the last error that was logged
        self._died = False
        self._abort = threading.Event()
        self._thread: threading.Thread | None = None
        self._folder: Path | None = None
        self._jvm: Jvm | None = None
        self._session: SparkSession | None = None
        self._executors: ExecutorWatch | None = None
        self._lost: ClusterLost | None = None  # why a start is given up

    @property
    def state(self) -> WarmState:
        """Where it stands now; a JVM that died while it was ready counts as failed."""
        with self._changed:
            self._notice_death()
            return self._state

    @property
    def error(self) -> DeltaqError | None:
        """Why it failed, when it has."""
        with self._changed:
            self._notice_death()
            return self._error

    @property
    def has_cluster(self) -> bool:
        """Whether its executors may be on other machines."""
        return is_cluster(self._settings.spark_master)

    @property
    def jvm_pid(self) -> int | None:
        """The process id of the JVM, when there is one."""
        with self._changed:
            return self._jvm.pid if self._jvm else None

    def start(self) -> None:
        """Start in the background, in place of a JVM that died or failed to start if there was one.

        Nothing happens if it is starting or ready already.
        """
        with self._changed:
            if self.state in (WarmState.STARTING, WarmState.READY):
                return
            self._clear()
            self._abort.set()  # that of a thread which waits to do the same
            self._abort = threading.Event()
            self._move(WarmState.STARTING)
            self._thread = threading.Thread(
                target=self._run, args=(self._abort,), name="warm-spark", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the JVM, whether it is ready or starting, and wait until it is gone."""
        with self._changed:
            self._abort.set()
            self._move(WarmState.STOPPED)
            if self._jvm:
                self._jvm.stop()
            thread = self._thread
        if thread:
            thread.join()
        with self._changed:
            if self._state is WarmState.STOPPED:
                self._clear()

    def session(self, timeout: float) -> SparkSession:
        """Wait until Spark is warm and return its session.

        Finding that the JVM has died starts another one.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            EngineUnavailable: It is not ready in time, failed to start, is stopped, or has
                just been found dead.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._revive()
            while self._state is WarmState.STARTING:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise EngineUnavailable(f"Spark is not ready after {timeout:g} s")
            if self._state is WarmState.FAILED:
                raise EngineUnavailable(f"Spark did not start: {self._error}") from self._error
            if self._session is None:
                raise EngineUnavailable("Spark is stopped")
            return self._session

    def condemn(self, session: SparkSession) -> None:
        """End the JVM of a session that no longer answers; it counts as dead then."""
        with self._changed:
            if self._jvm and self._state is WarmState.READY and session is self._session:
                self._jvm.stop()
                self._notice_death()

    def _revive(self) -> None:
        self._notice_death()
        due = self._state is WarmState.FAILED and time.monotonic() > self._failed_at + _TRY_AGAIN
        if self._died or due:
            error = self._error
            self.start()
            raise EngineUnavailable(f"{error}; another one is being started") from error

    def _notice_death(self) -> None:
        if self._state is WarmState.READY and self._jvm and not self._jvm.alive:
            self._died = True
            obituary = self._jvm.obituary()
            if any(_ENDED_BY_CLUSTER in line for line in self._jvm.last_words):
                master = self._settings.spark_master
                self._fail(ClusterLost(f"spark_master={master} has ended Spark: {obituary}"))
            else:
                self._fail(EngineUnavailable(f"Spark's JVM died: {obituary}"))

    def _run(self, abort: threading.Event) -> None:
        began = time.monotonic()
        try:
            session = self._start_session(abort)
            self._watch(session)
            warm_up(session, self._warm_up_folder())
        except Exception as exc:  # whatever it is, somebody waits to hear of it
            with self._changed:
                if not abort.is_set():
                    self._fail(self._lost or _as_start_error(exc))
            # Whether a cluster is back is seen before a JVM is started for it.
            lost = isinstance(self._error, ClusterLost)
            self._start_again(abort, after=_REPLACED_AFTER if lost else _TRY_AGAIN)
            return
        with self._changed:
            if abort.is_set():
                return
            assert self._jvm is not None
            jvm, self._session, self._told = self._jvm, session, ""
            self._move(WarmState.READY)
            _log.info("Spark is warm after %.1f s", time.monotonic() - began)
            self._on_ready()
        jvm.wait()
        with self._changed:
            self._notice_death()
        self._start_again(abort, after=_REPLACED_AFTER)

    def _start_again(self, abort: threading.Event, *, after: float) -> None:
        """Start another JVM after some seconds, unless somebody has done so or ended it all."""
        abort.wait(after)
        with self._changed:
            if not abort.is_set():
                self.start()

    def _start_session(self, abort: threading.Event) -> SparkSession:
        java = find_java()
        check_master(self._settings.spark_master)
        jars = provide_jars(self._settings, java.executable, abort)
        conf = spark_conf(self._settings, [*jars, LOG_STORE], self._work, pod=_pod())
        with self._changed:
            if abort.is_set():
                raise EngineUnavailable("Spark is being stopped")
            self._jvm, answer = launch(java, conf, self._work)
        _quieten_pyspark()
        gateway = connect_gateway(self._jvm, answer, abort)

        from pyspark import SparkConf, SparkContext
        from pyspark.sql import SparkSession

        SparkContext._ensure_initialized(gateway=gateway)
        return SparkSession(SparkContext(conf=SparkConf(loadDefaults=True)))

    def _watch(self, session: SparkSession) -> None:
        """Have the JVM end when a cluster gives it no executors any more."""
        if self.has_cluster:
            self._executors = ExecutorWatch(
                session,
                master=self._settings.spark_master,
                patience=self._settings.spark_executors_wait,
                lost=partial(self._lose, session),
            )

    def _lose(self, session: SparkSession, error: ClusterLost) -> None:
        with self._changed:
            if self._state is WarmState.STARTING:
                self._lost = error  # which is told when its thread notices
            elif session is self._session and self._state is WarmState.READY:
                self._died = True
                self._fail(error)
            else:
                return
            if self._jvm:
                self._jvm.stop()

    def _warm_up_folder(self) -> Location:
        """Name a folder that executors reach and that is not there."""
        if self.has_cluster:
            return StagingArea(self._settings.staging_root).new_shared_work_path()
        return self._work / "warm-up"

    @property
    def _work(self) -> Path:
        with self._changed:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="deltaq-spark-"))
            return self._folder

    def _fail(self, error: DeltaqError) -> None:
        self._failed_at = time.monotonic()
        if self._told != error.message:
            _log.error("%s", error)
        self._told = error.message
        self._error = error
        self._move(WarmState.FAILED)

    def _move(self, state: WarmState) -> None:
        self._state = state
        self._changed.notify_all()

    def _clear(self) -> None:
        """Leave nothing of the last JVM: process, files, and what pyspark remembers of it."""
        if self._jvm:
            self._jvm.stop()
            _forget_context()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._executors:
            self._executors.close()
        self._executors = self._lost = None
        self._died = False
        self._jvm = self._session = self._error = self._folder = self._thread = None


def _quieten_pyspark() -> None:
    # It warns when pandas 3 is installed beside it (SPARK-55965); no pandas is used here.
    message = "PySpark does not yet fully support pandas"
    warnings.filterwarnings("ignore", message=message, category=FutureWarning)

    from pyspark.logger import PySparkLogger

    # It prints each error with Java's stack as it is raised; we raise and log our own.
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(name).disabled = True


def _pod() -> str | None:
    """Name the pod that this process runs in; None outside of Kubernetes."""
    return os.environ.get("HOSTNAME") if "KUBERNETES_SERVICE_HOST" in os.environ else None


def _as_start_error(error: Exception) -> DeltaqError:
    if isinstance(error, DeltaqError):
        return error
    first_line = str(error).strip().partition("\n")[0]
    return EngineUnavailable(f"{type(error).__name__}: {first_line}")


def _forget_context() -> None:
    """Make pyspark forget a JVM that is gone, so that it will connect to another."""
    from py4j.protocol import Py4JError
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    context: Any = SparkContext._active_spark_context
    if context is not None:
        context._jsc = None
        context._accumulatorServer.shutdown()
    gateway: Any = SparkContext._gateway
    if gateway is not None:
        with contextlib.suppress(Py4JError, OSError):
            gateway.shutdown()
    SparkContext._active_spark_context = None
    SparkContext._gateway = SparkContext._jvm = None
    SparkSession._instantiatedSession = SparkSession._activeSession = None
