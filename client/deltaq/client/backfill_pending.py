"""The future of a backfill while it waits, and where news of it comes from."""

from __future__ import annotations

import concurrent.futures
import logging

from deltaq.client.future import BaseFuture
from deltaq.client.listener import Listener
from deltaq.client.pending import error_of
from deltaq.tasks.backfill import Backfill, Ending, Verdict
from deltaq.tasks.error_info import error_from_info
from deltaq.tasks.errors import DeltaqError, OutcomeExpired, StagedDataMissing, StorageUnavailable
from deltaq.tasks.outcome import Outcome, State

logger = logging.getLogger(__name__)


class PendingBackfill:
    """A backfill that waits for its end.

    A commit is heard and looked up in Redis, like that of any request. All other ends are in the
    backfill's folder, at which a helper looks every few seconds.

    Args:
        future: What the program holds.
        backfill: The folder.
        listener: Resolves the future.
        helpers: Reads files, so that the listening thread never waits for them.
    """

    #: Redis may be asked: the id is nobody else's.
    known = True

    def __init__(
        self,
        future: BaseFuture[Outcome],
        *,
        backfill: Backfill,
        listener: Listener,
        helpers: concurrent.futures.Executor,
    ) -> None:
        self.future = future
        self._backfill = backfill
        self._listener = listener
        self._helpers = helpers
        self._looking = False

    def settle(self, outcome: Outcome) -> None:
        """Resolve the future, a failure only if it is the last word: it may be of before a resume."""
        if error_of(outcome) is None:
            self.future._succeed(outcome)
        else:
            self._listener.add(self)
            self.unknown()

    def queued(self) -> None:
        """Do nothing: that its files are about to be adopted changes nothing."""

    def unknown(self) -> None:
        """Look into the folder."""
        if not self._looking:
            self._looking = True
            self._helpers.submit(self._look)

    def _look(self) -> None:
        try:
            self._learn(self._backfill.verdict())
        except StorageUnavailable as exc:
            logger.warning("backfill %s cannot be looked at: %s", self.future.request_id, exc)
        except DeltaqError as exc:
            self._listener.fail(self.future, exc)
        finally:
            self._looking = False

    def _learn(self, verdict: Verdict | None) -> None:
        future = self.future
        if verdict is None:
            self._require_manifest()
        elif verdict.ending is Ending.ADOPTED:
            self._listener.settle(_outcome(future, verdict))
        elif verdict.ending is Ending.FAILED and verdict.error is not None:
            error = error_from_info(verdict.error, request_id=future.request_id, table=future.table)
            self._listener.fail(future, error)
        elif verdict.ending is Ending.CANCELLED:
            cancelled = Outcome(
                request_id=future.request_id,
                table=future.table,
                operation=future.operation,
                state=State.CANCELLED,
            )
            self._listener.fail(future, error_of(cancelled) or AssertionError(cancelled))

    def _require_manifest(self) -> None:
        try:
            self._backfill.manifest()
        except StagedDataMissing as exc:
            raise OutcomeExpired(
                f"backfill {self.future.request_id} of table {self.future.table} is forgotten: "
                "what came of it was kept for outcome_ttl and not heard; the table's history "
                "tells whether it was committed",
                request_id=self.future.request_id,
                table=self.future.table,
            ) from exc


def _outcome(future: BaseFuture[Outcome], verdict: Verdict) -> Outcome:
    """Tell what the verdict tells of a commit that Redis has forgotten."""
    return Outcome(
        request_id=future.request_id,
        table=future.table,
        operation="adopt",
        state=State.COMMITTED,
        version=verdict.version,
        rows=verdict.rows,
        inserted=verdict.rows,
        value={"files": verdict.files, "bytes": verdict.size_bytes},
    )
