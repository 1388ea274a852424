"""Cancels the requests whose tasks are revoked, in Flower or by ``celery control revoke``."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from celery.utils.functional import maybe_list
from celery.worker import state as celery_state
from celery.worker.control import Panel, ok

from deltaq.tasks.calls import unapplied
from deltaq.tasks.errors import DeltaqError, StagedDataMissing
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.location import Location
from deltaq.tasks.names import check_request_id
from deltaq.tasks.outcome import State
from deltaq.tasks.staging import StagingArea, staged_request

logger = logging.getLogger(__name__)

#: Revoked ids that wait to be looked up; whoever revokes more at once hears that it was too many.
_MOST_WAITING = 10_000


class Revoker:
    """Cancels revoked requests in a thread of its own, which starts with the first. Close it.

    All workers hear of each id; the first to ask Redis cancels it. A request is found by its
    staged file, so nothing needs to be remembered of those that wait.
    """

    def __init__(self, inbox: Inbox, staging: StagingArea) -> None:
        self._inbox = inbox
        self._staging = staging
        self._waiting: queue.Queue[str | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def listen(self) -> None:
        """Take the place of Celery's own command, which would look for a result backend."""
        Panel.data["revoke"] = self._on_command

    def revoke(self, ids: Iterable[str]) -> list[str]:
        """Have those of the ids that are queued requests cancelled soon.

        Returns:
            Those that were refused, because too many wait.
        """
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="deltaq-revoker", daemon=True
                )
                self._thread.start()
        refused = []
        for task_id in ids:
            try:
                self._waiting.put_nowait(task_id)
            except queue.Full:
                refused.append(task_id)
        return refused

    def close(self) -> None:
        """Cancel what waits and end the thread."""
        with self._lock:
            if self._thread is not None:
                self._waiting.put(None)
                self._thread.join()
                self._thread = None

    def _on_command(self, state: Any, task_id: str | list[str], **_: Any) -> dict[str, str]:
        """Do what Celery's command does, too: a wake-up or a read that is revoked does not run."""
        ids = [str(one) for one in maybe_list(task_id) or ()]
        celery_state.revoked.update(ids)
        refused = self.revoke(ids)
        if refused:
            logger.warning("%d revoked ids are too many at once; revoke them again", len(refused))
            return {"error": f"too many at once, revoke them again: {', '.join(refused[:10])} ..."}
        reply: dict[str, str] = ok(f"tasks {', '.join(ids)} flagged as revoked")
        return reply

    def _run(self) -> None:
        while (task_id := self._waiting.get()) is not None:
            try:
                for path in self._staged(task_id):
                    self._cancel(path)
            except StagedDataMissing:
                continue  # settled meanwhile, or cancelled by another worker
            except DeltaqError as exc:
                logger.warning("revoked task %s not cancelled: %s", task_id, exc)
            except Exception:
                # Whatever it was, the next ones must be cancelled.
                logger.exception("revoked task %s not cancelled", task_id)

    def _staged(self, task_id: str) -> Iterator[Location]:
        try:
            check_request_id(task_id)
        except DeltaqError:
            return iter(())  # of a Celery task
        return self._staging.root.glob(f"requests/*/{task_id}.parquet")

    def _cancel(self, path: Location) -> None:
        request = staged_request(path)
        if path != self._staging.request_path(request.table, request.request_id):
            logger.warning("%s: not cancelled: the request in it is another one", path)
            return
        state = self._inbox.cancel(request, reason=unapplied(request, State.CANCELLED))
        if state is State.CANCELLED:
            self._staging.remove(path)
            logger.info("table %s: %s cancelled: revoked", request.table, request.request_id)
        else:
            logger.warning(
                "table %s: %s was revoked, but cannot be cancelled any more: %s",
                request.table,
                request.request_id,
                "a worker has begun with it" if state is State.QUEUED else state or "unknown",
            )
