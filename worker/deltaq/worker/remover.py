"""Removes the staged files of settled requests while the next group is committed."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence

from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.request import Request
from deltaq.tasks.staging import StagingArea

logger = logging.getLogger(__name__)

#: Groups whose files wait for removal; with more of them commits wait for the disk.
_MOST_WAITING = 32


class Remover:
    """Removes staged files in a thread of its own, which starts with the first. Close it.

    On a busy disk it takes as long to remove the files of a group as to commit it. What a worker
    does not come to is found by the sweeper.
    """

    def __init__(self, staging: StagingArea) -> None:
        self._staging = staging
        self._waiting: queue.Queue[Sequence[Request]] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def remove(self, requests: Sequence[Request]) -> None:
        """Have the staged files of settled requests removed soon."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="deltaq-remover", daemon=True
                )
                self._thread.start()
        self._waiting.put(requests)

    def close(self) -> None:
        """Remove what waits and end the thread; the next files start another."""
        with self._lock:
            if self._thread is not None:
                self._waiting.put(())
                self._thread.join()
                self._thread = None

    def _run(self) -> None:
        while requests := self._waiting.get():
            self._remove(requests)

    def _remove(self, requests: Sequence[Request]) -> None:
        try:
            self._staging.remove_all(
                [self._staging.request_path(r.table, r.request_id) for r in requests]
            )
        except StorageUnavailable as exc:
            logger.warning("%s; the sweeper will remove it", exc)
