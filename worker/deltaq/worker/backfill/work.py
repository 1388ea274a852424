"""Some parts of one backfill, from a worker's claim to what came of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from deltaq.tasks.backfill import Backfill
from deltaq.tasks.error_info import ErrorInfo, error_from_info, info_from_error
from deltaq.tasks.errors import DeadLettered, QueueUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.manifest import Manifest, Part, piece_numbers
from deltaq.tasks.s3 import S3Options
from deltaq.tasks.s3_path import S3Path
from deltaq.worker.backfill.claims import Claims
from deltaq.worker.backfill.finishing import Finisher
from deltaq.worker.backfill.helper import Helper, HelperDied
from deltaq.worker.backfill.preparing import Answer, Job
from deltaq.worker.groups import POISONOUS
from deltaq.worker.observers import Observer

logger = logging.getLogger(__name__)

#: Seconds between two looks at what parts in work depend on.
_LOOK = 0.5


class Work:
    """Parts that this worker has claimed.

    Args:
        backfill: Of which backfill.
        manifest: What it is to do.
        claims: Those of the worker.
        held: The parts that it has claimed, with its claims.
    """

    def __init__(
        self,
        backfill: Backfill,
        manifest: Manifest,
        claims: Claims,
        held: Sequence[tuple[Part, str]],
    ) -> None:
        self.backfill = backfill
        self.manifest = manifest
        self._claims = claims
        self._parts = {part.number: part for part, _ in held}
        self._held = {part.number: claim for part, claim in held}
        self._renewed = time.monotonic()

    def begin(self, finisher: Finisher) -> bool:
        """Count the tries of all parts; False if one was tried too often, and all is given up."""
        for number in self._held:
            tries = self._claims.count_try(self.manifest, number)
            if tries > POISONOUS:
                finisher.fail(self.backfill, self.manifest, self._poison(number, tries), number)
                return False
        return True

    def perform(
        self,
        helper: Helper,
        jobs: Sequence[Job],
        *,
        finisher: Finisher,
        stopping: threading.Event,
        observer: Observer,
    ) -> None:
        """Have the parts prepared, until they are or are not wanted any more.

        Raises:
            TransientError: One could not be; it may be the next time.
        """
        for number in self._held:
            observer.part_begun(self.manifest, number)
        try:
            helper.begin(jobs)
            self._follow(helper, finisher, stopping, observer)
        except HelperDied as exc:
            logger.warning("backfill %s: %s", self.manifest.backfill_id, exc)
            self._end_all(observer, tried=True)
        finally:
            self._end_all(observer, tried=False)

    def jobs(
        self, *, table: Location, work: Path, allowed: Sequence[Location], worker: str
    ) -> list[Job]:
        """Describe the parts to who prepares them."""
        return [
            Job(
                manifest=msgspec.structs.replace(self.manifest, parts=(part,)),
                folder=str(self.backfill.folder),
                table=str(table),
                work=str(work.absolute()),
                worker=worker,
                allowed=tuple(map(str, allowed)),
                piece_numbers=tuple(piece_numbers(part.number, len(self.manifest.parts))),
                s3=_s3_options(table, self.backfill.folder),
            )
            for part in self._parts.values()
        ]

    def release(self, *, tried: bool) -> None:
        """Give back what is held, with its tries counted or not."""
        for number in list(self._held):
            self._end(number, tried=tried)

    def _follow(
        self, helper: Helper, finisher: Finisher, stopping: threading.Event, observer: Observer
    ) -> None:
        while self._held:
            answer = helper.answer(_LOOK)
            if answer is not None:
                self._settle(answer, finisher, observer)
            elif stopping.is_set() or self.backfill.verdict() is not None:
                helper.stop()
                return
            else:
                self._renew()

    def _settle(self, answer: Answer, finisher: Finisher, observer: Observer) -> None:
        number = answer.part
        if answer.prepared is not None:
            if self.backfill.verdict() is None:  # else another was faster, or all is given up
                self.backfill.add_part(answer.prepared)
            if pieces := len(answer.prepared.pieces):
                backfill_id = self.manifest.backfill_id
                logger.info("backfill %s: part %d is cut into %d", backfill_id, number, pieces)
            self._end(number, tried=True)
            observer.part_ended(self.manifest, number, answer.prepared)
            return
        assert answer.error is not None
        error = error_from_info(answer.error)
        self._end(number, tried=not error.retryable)
        observer.part_ended(self.manifest, number, None)
        if error.retryable:
            raise error
        finisher.fail(self.backfill, self.manifest, answer.error, number)

    def _renew(self) -> None:
        if time.monotonic() - self._renewed < self._claims.ttl / 3:
            return
        self._renewed = time.monotonic()
        with suppress(QueueUnavailable):  # another may do the same: no harm
            for number, claim in self._held.items():
                self._claims.renew(self.manifest, number, claim)

    def _end_all(self, observer: Observer, *, tried: bool) -> None:
        for number in list(self._held):
            self._end(number, tried=tried)
            observer.part_ended(self.manifest, number, None)

    def _end(self, number: int, *, tried: bool) -> None:
        claim = self._held.pop(number)
        try:
            if not tried:
                self._claims.count_try(self.manifest, number, by=-1)
            self._claims.release(self.manifest, number, claim)
        except QueueUnavailable as exc:
            logger.warning("part %d is free in %.0f s: %s", number, self._claims.ttl, exc)

    def _poison(self, number: int, tries: int) -> ErrorInfo:
        files = [piece.path for piece in self._parts[number].slices]
        return info_from_error(
            DeadLettered(
                f"part {number} ({', '.join(files[:3])}) was given up: {tries - 1} processes "
                "ended while they prepared it; when the cause is gone, resume the backfill",
                details={"crashes": tries - 1, "files": files},
            )
        )


def _s3_options(*places: Location) -> S3Options:
    """Tell how S3 is reached where one of these places is there: all are reached alike."""
    found = (place.bucket.options for place in places if isinstance(place, S3Path))
    return next(found, S3Options())
