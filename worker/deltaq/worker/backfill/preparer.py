"""Prepares parts of backfills while there are any, one at a time, in the background of a worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from deltaq.tasks.backfill import Backfill
from deltaq.tasks.error_info import info_from_error
from deltaq.tasks.errors import DeltaqError, EngineRefused, InvalidRequest, QueueUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.manifest import Manifest, Part
from deltaq.worker.backfill.claims import Claims
from deltaq.worker.backfill.confinement import check_sources
from deltaq.worker.backfill.finishing import Finisher
from deltaq.worker.backfill.helper import Helper, Process
from deltaq.worker.backfill.on_spark import Executors
from deltaq.worker.backfill.work import Work
from deltaq.worker.lake import Lake
from deltaq.worker.observers import NOBODY, Observer
from deltaq.worker.warm import WarmSpark

logger = logging.getLogger(__name__)

#: Seconds for which the process is kept when there is nothing to do.
_IDLE = 10.0


class Preparer:
    """Takes parts that nobody has, from all backfills, the oldest first.

    Messages only say that there may be some: which, this finds out by itself, so that a lost
    message costs a sweep and a worker that is busy takes none from one that is not.

    Args:
        finisher: Knows the backfills, and what to do when all parts are prepared.
        claims: Keeps two workers from the same part.
        lake: Where the tables are.
        work: Folder for what is put down for a moment.
        allowed: Folders from which it may load.
        worker: The worker's name.
        warm: Its Spark, if it has one.
        observer: Is told of parts.
    """

    def __init__(
        self,
        *,
        finisher: Finisher,
        claims: Claims,
        lake: Lake,
        work: Path,
        allowed: Sequence[Location],
        worker: str,
        warm: WarmSpark | None = None,
        observer: Observer = NOBODY,
    ) -> None:
        self._finisher = finisher
        self._claims = claims
        self._lake = lake
        self._work = work
        self._allowed = allowed
        self._checked: set[str] = set()
        self._worker = worker
        self._observer = observer
        self._process = Process()
        self._executors = Executors(warm) if warm else None
        self._put_off = ""  # why, so that the same is not told with each sweep
        self._hinted = threading.Event()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def hint(self) -> None:
        """Look for parts now; the thread that does so starts with the first hint."""
        with self._lock:
            if self._closing.is_set():
                return
            self._hinted.set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="deltaq-preparer", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Give the part in work back, end the process and the thread."""
        with self._lock:
            self._closing.set()
            self._hinted.set()
            thread = self._thread
        if thread is not None:
            thread.join()
        self._process.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._hinted.clear()
            try:
                while not self._closing.is_set() and (taken := self._take()):
                    self._prepare(*taken)
                self._put_off = ""
            except DeltaqError as exc:
                if self._put_off != exc.message:
                    logger.warning("backfills are put off: %s", exc)
                self._put_off = exc.message
            except Exception:
                # Whatever it was, the next hint comes with the next sweep.
                logger.exception("backfills are put off")
            if not self._hinted.wait(_IDLE):
                self._process.stop()
                self._hinted.wait()

    def _take(self) -> tuple[Work, Helper] | None:
        active = self._finisher.active()
        self._checked.intersection_update(active)
        for backfill_id in active:
            try:
                taken = self._take_of(self._finisher.open(backfill_id))
            except QueueUnavailable:
                raise
            except DeltaqError as exc:
                logger.warning("backfill %s: %s", backfill_id, exc)
            else:
                if taken is not None:
                    return taken
        return None

    def _take_of(self, backfill: Backfill) -> tuple[Work, Helper] | None:
        if backfill.verdict() is not None:
            return None
        manifest = backfill.manifest()
        if not self._may_load(backfill, manifest):
            return None
        helper = self._helper_for(backfill, manifest)
        if helper is None:
            return None
        missing = {part.number: part for part in backfill.unprepared(manifest)}
        held: list[tuple[Part, str]] = []
        for number in self._claims.free(manifest, missing):
            claim = self._claims.take(manifest, number)
            if claim is not None:
                held.append((missing[number], claim))
            if len(held) == helper.room:
                break
        if not held:
            return None
        work = Work(backfill, manifest, self._claims, held)
        # They may have been prepared, or all of it given up, since it was looked at.
        taken = {part.number for part, _ in held}
        if taken & backfill.prepared() or backfill.verdict() is not None:
            work.release(tried=True)
            return None
        return work, helper

    def _may_load(self, backfill: Backfill, manifest: Manifest) -> bool:
        """Check all sources before anything is prepared; if workers may not load one, give up."""
        if backfill.backfill_id in self._checked:
            return True
        try:
            check_sources(manifest.parts, backfill.folder, self._allowed)
        except InvalidRequest as refusal:
            self._finisher.fail(backfill, manifest, info_from_error(refusal), None)
            return False
        self._checked.add(backfill.backfill_id)
        return True

    def _helper_for(self, backfill: Backfill, manifest: Manifest) -> Helper | None:
        """Choose who prepares a backfill here; None if nobody does now."""
        if manifest.engine != "spark":
            return self._process
        if self._executors is None:
            refusal = EngineRefused(
                f"backfill {manifest.backfill_id} asks for Spark, and the worker runs with "
                "spark=off; set spark=on for all workers of this Redis",
                table=manifest.table,
            )
            self._finisher.fail(backfill, manifest, info_from_error(refusal), None)
            return None
        return self._executors if self._executors.ready else None

    def _prepare(self, work: Work, helper: Helper) -> None:
        manifest = work.manifest
        if not work.begin(self._finisher):
            work.release(tried=True)
            return
        table = self._lake.path(manifest.table)
        jobs = work.jobs(table=table, work=self._work, allowed=self._allowed, worker=self._worker)
        work.perform(
            helper,
            jobs,
            finisher=self._finisher,
            stopping=self._closing,
            observer=self._observer,
        )
        self._finisher.look(manifest.backfill_id)
