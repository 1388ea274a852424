"""Prepares parts of backfills while there are any, one at a time, in the background of a worker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from deltaq.tasks.backfill import Backfill, Manifest
from deltaq.tasks.errors import (
    DeadLettered,
    DeltaqError,
    ErrorInfo,
    QueueUnavailable,
    error_from_info,
    info_from_error,
)
from deltaq.worker.backfill.claims import Claims
from deltaq.worker.backfill.finishing import Finisher
from deltaq.worker.backfill.helper import Helper, HelperDied
from deltaq.worker.backfill.preparing import Job
from deltaq.worker.groups import POISONOUS
from deltaq.worker.lake import Lake
from deltaq.worker.observers import NOBODY, Observer

logger = logging.getLogger(__name__)

#: Seconds between two looks at what a part in work depends on.
_LOOK = 0.5
#: Seconds for which the process is kept when there is nothing to do.
_IDLE = 10.0


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A part that this worker has claimed."""

    backfill: Backfill
    manifest: Manifest
    number: int
    claim: str


class Preparer:
    """Takes parts that nobody has, from all backfills, the oldest first.

    Messages only say that there may be some: which, this finds out by itself, so that a lost
    message costs a sweep and a worker that is busy takes none from one that is not.

    Args:
        finisher: Knows the backfills, and what to do when all parts are prepared.
        claims: Keeps two workers from the same part.
        lake: Where the tables are.
        work: Folder for what is put down for a moment.
        worker: The worker's name.
        observer: Is told of parts.
    """

    def __init__(
        self,
        *,
        finisher: Finisher,
        claims: Claims,
        lake: Lake,
        work: Path,
        worker: str,
        observer: Observer = NOBODY,
    ) -> None:
        self._finisher = finisher
        self._claims = claims
        self._lake = lake
        self._work = work
        self._worker = worker
        self._observer = observer
        self._helper = Helper()
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
        self._helper.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._hinted.clear()
            try:
                while not self._closing.is_set() and (work := self._take()):
                    self._prepare(work)
            except DeltaqError as exc:
                logger.warning("backfills put off: %s", exc)
            except Exception:
                # Whatever it was, the next hint comes with the next sweep.
                logger.exception("backfills put off")
            if not self._hinted.wait(_IDLE):
                self._helper.stop()
                self._hinted.wait()

    def _take(self) -> _Work | None:
        for backfill_id in self._finisher.active():
            try:
                work = self._take_of(self._finisher.open(backfill_id))
            except QueueUnavailable:
                raise
            except DeltaqError as exc:
                logger.warning("backfill %s: %s", backfill_id, exc)
            else:
                if work is not None:
                    return work
        return None

    def _take_of(self, backfill: Backfill) -> _Work | None:
        if backfill.verdict() is not None:
            return None
        manifest = backfill.manifest()
        prepared = backfill.prepared()
        missing = [part.number for part in manifest.parts if part.number not in prepared]
        for number in self._claims.free(manifest, missing):
            claim = self._claims.take(manifest, number)
            if claim is None:
                continue
            work = _Work(backfill=backfill, manifest=manifest, number=number, claim=claim)
            # It may have been prepared, or all of it given up, since it was looked at.
            if number not in backfill.prepared() and backfill.verdict() is None:
                return work
            self._release(work)
        return None

    def _prepare(self, work: _Work) -> None:
        manifest, number = work.manifest, work.number
        tries = self._claims.count_try(manifest, number)
        if tries > POISONOUS:
            self._finisher.fail(work.backfill, manifest, _poison(work, tries - 1), number)
            self._release(work)
            return
        with self._told(work):
            try:
                self._helper.begin(self._job(work))
                self._await(work)
            except HelperDied as exc:
                logger.warning("backfill %s, part %d: %s", manifest.backfill_id, number, exc)
            finally:
                self._release(work)
        self._finisher.look(manifest.backfill_id)

    def _await(self, work: _Work) -> None:
        """Wait until a part is prepared, or is not wanted any more."""
        renewed = time.monotonic()
        while (answer := self._helper.answer(_LOOK)) is None:
            if self._closing.is_set() or work.backfill.verdict() is not None:
                self._helper.stop()
                with suppress(QueueUnavailable):
                    self._claims.count_try(work.manifest, work.number, by=-1)
                return
            if time.monotonic() - renewed > self._claims.ttl / 3:
                renewed = time.monotonic()
                with suppress(QueueUnavailable):  # another may do the same: no harm
                    self._claims.renew(work.manifest, work.number, work.claim)
        if answer.prepared is not None:
            work.backfill.add_part(answer.prepared)
        elif answer.error is not None:
            self._failed(work, answer.error)

    def _failed(self, work: _Work, info: ErrorInfo) -> None:
        error = error_from_info(info)
        if error.retryable:
            self._claims.count_try(work.manifest, work.number, by=-1)
            raise error
        self._finisher.fail(work.backfill, work.manifest, info, work.number)

    def _job(self, work: _Work) -> Job:
        parts = tuple(part for part in work.manifest.parts if part.number == work.number)
        return Job(
            manifest=msgspec.structs.replace(work.manifest, parts=parts),
            folder=str(work.backfill.folder.absolute()),
            table=str(self._lake.path(work.manifest.table).absolute()),
            work=str(self._work.absolute()),
            worker=self._worker,
        )

    def _release(self, work: _Work) -> None:
        try:
            self._claims.release(work.manifest, work.number, work.claim)
        except QueueUnavailable as exc:
            logger.warning("part %d is free in %.0f s: %s", work.number, self._claims.ttl, exc)

    @contextmanager
    def _told(self, work: _Work) -> Iterator[None]:
        """Tell the observer of a part, whatever comes of it."""
        self._observer.part_begun(work.manifest, work.number)
        try:
            yield
        finally:
            prepared = None
            with suppress(DeltaqError):
                prepared = work.backfill.part(work.number)
            self._observer.part_ended(work.manifest, work.number, prepared)


def _poison(work: _Work, crashes: int) -> ErrorInfo:
    part = work.manifest.parts[work.number]
    files = ", ".join(piece.path for piece in part.slices[:3])
    return info_from_error(
        DeadLettered(
            f"part {work.number} ({files}) was given up: {crashes} processes ended while they "
            "prepared it; when the cause is gone, resume the backfill",
            details={"crashes": crashes, "files": [piece.path for piece in part.slices]},
        )
    )
