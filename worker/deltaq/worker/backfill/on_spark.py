"""Prepares parts by the executors of Spark: one job for many parts, with the code of all others."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from deltaq.tasks.errors import EngineUnavailable
from deltaq.worker.backfill.helper import HelperDied
from deltaq.worker.backfill.preparing import Answer, Job, answer_to
from deltaq.worker.warm import WarmSpark, WarmState

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Parts in one job. What a job that fails has prepared is prepared again.
_PARTS_IN_JOB = 256
_GROUP = "deltaq-backfill"


class Executors:
    """The executors of a worker's Spark, which need deltaq, the storage and the sources.

    See :class:`~deltaq.worker.backfill.helper.Helper`.

    Args:
        warm: The worker's SparkSession.
    """

    room = _PARTS_IN_JOB

    def __init__(self, warm: WarmSpark) -> None:
        self._warm = warm
        self._session: SparkSession | None = None
        self._answers: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()

    @property
    def ready(self) -> bool:
        """Tell whether Spark is warm."""
        return self._warm.state is WarmState.READY

    def begin(self, jobs: Sequence[Job]) -> None:
        """Begin a Spark job with a task for each part."""
        try:
            session = self._session = self._warm.session(0.0)
        except EngineUnavailable as exc:
            raise HelperDied(exc.message) from exc
        answers = self._answers = queue.SimpleQueue()
        wires = [msgspec.json.encode(job) for job in jobs]
        threading.Thread(
            target=_run, args=(session, wires, answers), name="deltaq-backfill-job", daemon=True
        ).start()

    def answer(self, timeout: float) -> Answer | None:
        """Wait for what came of a part; all are known at the end of the job."""
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(answer, Exception):
            raise HelperDied(f"the Spark job failed: {answer}") from answer
        return answer

    def stop(self) -> None:
        """Cancel the job."""
        if self._session is not None:
            self._session.sparkContext.cancelJobGroup(_GROUP)


def _run(
    session: SparkSession,
    wires: Sequence[bytes],
    answers: queue.SimpleQueue[Answer | Exception],
) -> None:
    context = session.sparkContext
    if str(context.master).startswith("local"):
        context.pythonExec = sys.executable
    context.setJobGroup(_GROUP, "parts of backfills", interruptOnCancel=True)
    context.setLocalProperty("spark.scheduler.pool", _GROUP)
    try:
        for wire in context.parallelize(wires, len(wires)).map(_prepared).collect():
            answers.put(msgspec.json.decode(wire, type=Answer))
    except Exception as exc:  # of py4j, of the job: whatever it was, the parts are not prepared
        answers.put(exc)


def _prepared(wire: bytes) -> bytes:
    """Prepare a part in a task of Spark."""
    return msgspec.json.encode(answer_to(msgspec.json.decode(wire, type=Job)))
