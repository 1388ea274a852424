"""What becomes of backfills once their parts are prepared, or one of them cannot be.

Each look at a backfill takes it one step further, and may be taken by any worker at any time:
whatever one that died has left undone is done by the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from deltaq.tasks.backfill import Backfill, Ending, Verdict, list_backfills, unbegun
from deltaq.tasks.error_info import ErrorInfo, info_from_error
from deltaq.tasks.errors import DeltaqError, InvalidSignature, RequestError, StorageUnavailable
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.location import Location
from deltaq.tasks.manifest import Manifest
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Lane
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import Settings
from deltaq.tasks.signing import signer_of
from deltaq.tasks.staging import StagingArea
from deltaq.worker.backfill.adopting import stage_adopt
from deltaq.worker.backfill.claims import Claims
from deltaq.worker.backfill.names import left_behind, resumed_of
from deltaq.worker.lake import Lake
from deltaq.worker.ledger import find_committed
from deltaq.worker.observers import NOBODY, Observer

logger = logging.getLogger(__name__)

#: Seconds for which the outcome of an earlier try may still be what Redis knows of a request.
_SUBMITTED_WITHIN = 2.0
#: Seconds by which the clocks of those who stage and those who commit may differ.
_CLOCKS_APART = 3600.0
#: Seconds without an upload after which the client of a folder without a manifest is gone.
UPLOADED_WITHIN = 86_400.0
#: Backfills that one look goes through; the oldest first, so that none is forgotten.
_MOST = 1000


class Finisher:
    """Brings backfills to their end. Every method may run in many threads and workers at once.

    Args:
        staging: Where the backfills are.
        lake: Where the tables are.
        inbox: Where the requests to adopt go.
        claims: Who prepares what.
        settings: How long what came of backfills is kept; the signing key.
        ring: Sends a wake-up.
        observer: Is told of backfills that are given up.
    """

    def __init__(
        self,
        staging: StagingArea,
        lake: Lake,
        inbox: Inbox,
        claims: Claims,
        settings: Settings,
        *,
        ring: Callable[[str, Lane], None],
        observer: Observer = NOBODY,
    ) -> None:
        self._staging = staging
        self._lake = lake
        self._inbox = inbox
        self._claims = claims
        self._keep = settings.outcome_ttl
        self._signer = signer_of(settings)
        self._ring = ring
        self._observer = observer
        #: Adopted ones, which nothing is to be done for until they are removed.
        self._done: set[str] = set()
        #: Those that were told to be damaged; telling it with each sweep would fill the log.
        self._damaged: set[str] = set()

    def open(self, backfill_id: str) -> Backfill:
        """Open the folder of a backfill."""
        return Backfill(self._staging, backfill_id, self._signer)

    def active(self) -> list[str]:
        """List the backfills that have not come to their end, the oldest first.

        Raises:
            StorageUnavailable: The staging area cannot be read.
        """
        known = list(list_backfills(self._staging))
        self._done.intersection_update(known)
        self._damaged.intersection_update(known)
        return [backfill_id for backfill_id in known if backfill_id not in self._done][:_MOST]

    def sweep(self) -> int:
        """Take every backfill a step further; return how many have parts to prepare.

        Raises:
            StorageUnavailable, QueueUnavailable: Look again later.
        """
        unprepared = 0
        for backfill_id in self.active():
            try:
                unprepared += self.look(backfill_id)
            except (StorageUnavailable, OSError):
                raise
            except InvalidSignature as exc:
                self._refuse(self.open(backfill_id), exc)
            except RequestError as exc:
                if backfill_id not in self._damaged:
                    self._damaged.add(backfill_id)
                    logger.warning("backfill %s is left alone: %s", backfill_id, exc)
            except DeltaqError as exc:
                logger.warning("backfill %s: %s", backfill_id, exc)
        return unprepared

    def look(self, backfill_id: str) -> bool:
        """Take a backfill a step further; tell whether it has parts that are not prepared.

        Raises:
            DeltaqError: It cannot be done now, or the backfill is damaged.
        """
        backfill = self.open(backfill_id)
        verdict = backfill.verdict()
        if verdict is None:
            manifest = backfill.manifest()
            if backfill.unprepared(manifest):
                return True
            self._begin_adopting(backfill, manifest)
        elif verdict.ending is Ending.ADOPTING:
            self._follow(backfill, backfill.manifest(), verdict)
        elif verdict.ending is Ending.ADOPTED:
            self._done.add(backfill_id)
        elif not verdict.cleaned:
            self._clean(backfill, backfill.manifest(), verdict)
        return False

    def expire(self, *, unbegun_for: float = UPLOADED_WITHIN) -> int:
        """Remove the folders of backfills that ended long ago, or never began; return how many.

        A folder without a manifest is that of a client that uploads, or died while it did: it
        goes when nothing has come for ``unbegun_for`` seconds.

        Raises:
            StorageUnavailable: The staging area cannot be read now.
        """
        removed = 0
        for backfill_id in list_backfills(self._staging):
            backfill = self.open(backfill_id)
            try:
                verdict = backfill.verdict()
            except RequestError:  # damaged, or not signed; it must not keep the others
                continue
            if verdict and verdict.cleaned and verdict.at_ms + self._keep * 1000 < _now_ms():
                backfill.remove()
                removed += 1
        for folder in unbegun(self._staging, older_than=unbegun_for):
            self._staging.remove_folder(folder)
            removed += 1
        return removed

    def fail(
        self, backfill: Backfill, manifest: Manifest, error: ErrorInfo, part: int | None
    ) -> None:
        """Note that a part, or any of them, cannot be prepared, and so the backfill neither."""
        verdict = Verdict(ending=Ending.FAILED, at_ms=_now_ms(), error=error, part=part)
        if backfill.decide(verdict):
            logger.warning(
                "backfill %s of table %s failed%s: %s",
                manifest.backfill_id,
                manifest.table,
                "" if part is None else f" in part {part}",
                error.message,
            )

    def _refuse(self, backfill: Backfill, exc: InvalidSignature) -> None:
        """Fail a backfill that nobody with the key began, as a request would."""
        verdict = Verdict(
            ending=Ending.FAILED,
            at_ms=_now_ms(),
            error=info_from_error(exc),
            cleaned=not backfill.prepared(),
        )
        if backfill.decide(verdict):
            logger.warning("backfill %s failed: %s", backfill.backfill_id, exc)

    def _begin_adopting(self, backfill: Backfill, manifest: Manifest) -> None:
        verdict = Verdict(ending=Ending.ADOPTING, at_ms=_now_ms())
        if backfill.decide(verdict):
            self._submit(backfill, manifest, verdict, anew=True)

    def _submit(
        self, backfill: Backfill, manifest: Manifest, verdict: Verdict, *, anew: bool
    ) -> None:
        rows = 0
        for part in backfill.parts(manifest):
            prepared = backfill.part(part.number)
            rows += prepared.rows if prepared else 0
        request = stage_adopt(
            self._staging, manifest, rows=rows, at_ms=verdict.at_ms, signer=self._signer
        )
        submitted = self._inbox.submit(request, anew=anew)
        if submitted.ring:
            self._ring(request.table, request.lane)

    def _follow(self, backfill: Backfill, manifest: Manifest, verdict: Verdict) -> None:
        (outcome,) = self._inbox.outcomes([(manifest.table, manifest.backfill_id)])
        if isinstance(outcome, Outcome):
            if outcome.state is State.COMMITTED:
                self._adopted(backfill, manifest, outcome.version)
            elif _now_ms() - verdict.at_ms > _SUBMITTED_WITHIN * 1000:
                self._not_adopted(backfill, outcome)
        elif outcome is None:  # Redis has forgotten it, or who decided died before it was there
            version = self._version(manifest)
            if version is None:
                self._submit(backfill, manifest, verdict, anew=False)
            else:
                self._adopted(backfill, manifest, version)

    def _version(self, manifest: Manifest) -> int | None:
        """Tell which version of the table has a backfill, by its log."""
        since = manifest.submitted_at_ms / 1000 - _CLOCKS_APART
        path, wanted = self._lake.path(manifest.table), manifest.backfill_id
        found = find_committed(path, None, [wanted], since=since).get(wanted)
        return found.version if found else None

    def _adopted(self, backfill: Backfill, manifest: Manifest, version: int | None) -> None:
        parts = [backfill.part(part.number) for part in backfill.parts(manifest)]
        if None in parts and (noted := backfill.verdict()) and noted.ending is Ending.ADOPTED:
            self._done.add(backfill.backfill_id)  # another worker was first, and has cleared away
            return
        files = [file for part in parts if part for file in part.files]
        for file in left_behind(self._lake.path(manifest.table), manifest.backfill_id):
            if file.name.startswith("."):  # a worker was killed while it wrote it
                self._staging.remove(file)
        backfill.forget_uploads()
        seconds = (_now_ms() - manifest.submitted_at_ms) / 1000
        backfill.amend(
            Verdict(
                ending=Ending.ADOPTED,
                at_ms=_now_ms(),
                version=version,
                rows=sum(file.rows for file in files),
                files=len(files),
                size_bytes=sum(file.size_bytes for file in files),
                seconds=round(max(0.0, seconds), 3),
                cleaned=True,
            )
        )
        backfill.forget_parts()
        self._done.add(backfill.backfill_id)
        logger.info("backfill %s is in table %s", manifest.backfill_id, manifest.table)

    def _not_adopted(self, backfill: Backfill, outcome: Outcome) -> None:
        cancelled = outcome.state is State.CANCELLED
        backfill.amend(
            Verdict(
                ending=Ending.CANCELLED if cancelled else Ending.FAILED,
                at_ms=_now_ms(),
                error=outcome.error,
            )
        )

    def _clean(self, backfill: Backfill, manifest: Manifest, verdict: Verdict) -> None:
        """Remove what was prepared, once nobody writes any more."""
        numbers = [part.number for part in backfill.parts(manifest)]
        if len(list(self._claims.free(manifest, numbers))) < len(numbers):
            return  # they stop within seconds
        version = self._version(manifest)
        if version is not None:  # never remove what is in the table
            self._adopted(backfill, manifest, version)
            return
        if backfill.verdict() != verdict:
            return  # others have cleaned up, and perhaps gone on
        removed = 0
        for file in left_behind(self._lake.path(manifest.table), manifest.backfill_id):
            if resumed_of(file.name) <= manifest.resumed:  # later ones may be in the table by now
                self._staging.remove(file)
                removed += 1
        # Resumed, it is adopted by a request of its own.
        self._staging.remove(self._staging.request_path(manifest.table, manifest.backfill_id))
        backfill.forget_parts()
        self._claims.forget_tries(manifest)
        _remove_empty(self._lake.path(manifest.table))
        amended = Verdict(
            ending=verdict.ending,
            at_ms=verdict.at_ms,
            error=verdict.error,
            part=verdict.part,
            cleaned=True,
        )
        backfill.amend(amended)
        self._observer.backfill_given_up(manifest, amended)
        logger.info("backfill %s: removed %d prepared files", manifest.backfill_id, removed)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _remove_empty(table: Location) -> None:
    """Remove the folder of a table that never came to be, with its empty partitions."""
    if isinstance(table, S3Path) or (table / "_delta_log").exists():
        return
    for folder in sorted(table.rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if table.is_dir() and not any(table.iterdir()):
        table.rmdir()
