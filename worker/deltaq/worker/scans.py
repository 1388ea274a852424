"""Reads as a stream: a worker writes parts of a result while the client takes them.

The client removes each part that it has read, so that their number tells how far it is behind;
while it is far behind, the worker waits. See ``deltaq.tasks.scan_folder``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from deltaq.tasks.errors import (
    DeltaqError,
    EngineDied,
    EngineUnavailable,
    RequestCancelled,
    RequestExpired,
    StorageUnavailable,
)
from deltaq.tasks.query import Scan
from deltaq.tasks.scan_folder import ScanFolder
from deltaq.tasks.staging import StagingArea
from deltaq.worker.router import Router

logger = logging.getLogger(__name__)

#: Scans that one worker performs at once, each in a thread that is not one of the pool.
_MOST_SCANS = 16
#: Parts that may lie there unread, and bytes of rows after which a part is full: together what
#: one scan takes on the disk of the staging area.
_MOST_PARTS, _PART_BYTES = 8, 8 * 1024 * 1024
#: Seconds after which rows are handed over although the part is not full.
_PART_SECONDS = 0.5
#: Seconds between two signs of life; a folder without one for the second time is of the dead.
_SIGN, _DEAD = 3.0, 20.0


class Parts:
    """The parts of one scan's result, written in order.

    Args:
        folder: Where they go; it is there.
        work: Name of a file on this machine's disk that they may be written to before.
        patience: Seconds that an unread part may lie there before the client counts as gone.
        stopping: Set when the worker ends.
    """

    def __init__(
        self, folder: ScanFolder, work: Path, *, patience: float, stopping: threading.Event
    ) -> None:
        self._folder = folder
        self._work = work
        self._patience = patience
        self._stopping = stopping
        self._batches: list[pa.RecordBatch] = []
        self._since = time.monotonic()
        #: How many there are.
        self.count = 0
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows; they are handed over when a part is full.

        Raises:
            RequestCancelled: The client does not want them any more.
            RequestExpired: It has taken none for too long.
            EngineUnavailable: The worker ends.
            StorageUnavailable: The staging area cannot be written.
        """
        self._batches.append(batch)
        full = sum(b.nbytes for b in self._batches) >= _PART_BYTES
        if full or time.monotonic() - self._since > _PART_SECONDS:
            self.flush(batch.schema)

    def flush(self, schema: pa.Schema) -> None:
        """Hand over what was added; a result without rows is one part that has none.

        Raises:
            As :meth:`write`.
        """
        if not self._batches and self.count:
            return
        rows = sum(b.num_rows for b in self._batches)
        with self._folder.draft(self._work) as file:
            try:
                with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                    for batch in self._batches:
                        writer.write_batch(batch)
            except OSError as exc:
                self._check_wanted()
                raise StorageUnavailable(f"{file}: cannot be written: {exc}") from exc
            self._batches = []
            self.take(file, suffix="arrow", rows=rows)

    def take(self, file: Path, *, suffix: str, rows: int) -> None:
        """Hand over a file as the next part.

        Raises:
            As :meth:`write`.
        """
        self._wait_for_room()
        try:
            self._folder.put(file, self.count, f".{suffix}")
        except OSError as exc:
            self._check_wanted()
            raise StorageUnavailable(f"{file}: cannot be moved: {exc.strerror}") from exc
        self.count += 1
        self.rows += rows
        self._since = time.monotonic()

    def _wait_for_room(self) -> None:
        unread, since = self._unread(), time.monotonic()
        while unread >= _MOST_PARTS and not self._stopping.wait(self._folder.look_seconds):
            left, unread = unread, self._unread()
            if unread < left:
                since = time.monotonic()
            elif time.monotonic() - since > self._patience:
                raise RequestExpired(
                    f"no rows of the scan were taken for {self._patience:g} s (read_ttl); scan "
                    "again, and take them sooner"
                )
        if self._stopping.is_set():
            raise EngineUnavailable("the worker that scanned the table ends; scan again")

    def _unread(self) -> int:
        try:
            return self._folder.unread()
        except OSError:
            self._check_wanted()
            raise

    def _check_wanted(self) -> None:
        if not self._folder.is_wanted():
            raise RequestCancelled("the scan was closed before its end")


class Scans:
    """Performs scans in threads of their own, for they last as long as their clients read.

    Args:
        router: Has an engine read tables.
        staging: Where the parts go.
        patience: Seconds after which a client that takes nothing counts as gone.
        settle: Tells a client how its scan ended: with facts of the outcome, or an error.
    """

    def __init__(
        self,
        *,
        router: Router,
        staging: StagingArea,
        patience: float,
        settle: Callable[[Scan, dict[str, Any] | DeltaqError], None],
    ) -> None:
        self._router = router
        self._staging = staging
        self._patience = patience
        self._settle = settle
        self._threads = ThreadPoolExecutor(_MOST_SCANS, "deltaq-scan")
        self._active: set[ScanFolder] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._pulse: threading.Thread | None = None

    def begin(self, query: Scan) -> None:
        """Begin to scan, unless somebody is at it.

        Raises:
            RequestCancelled: The client does not want it any more.
            EngineDied: The worker that was at it has died.
            EngineUnavailable: This worker has enough to do.
            StorageUnavailable: The staging area cannot be written.
        """
        folder = ScanFolder(self._staging.read_path(query.request_id))
        with self._lock:
            if len(self._active) >= _MOST_SCANS:
                raise EngineUnavailable(
                    f"{_MOST_SCANS} scans run at this worker already; try again"
                )
            if not self._claim(folder):
                return
            self._active.add(folder)
            if self._pulse is None:
                self._pulse = threading.Thread(
                    target=self._show_life, name="deltaq-scan-pulse", daemon=True
                )
                self._pulse.start()
        self._threads.submit(self._perform, query, folder)

    def close(self) -> None:
        """Have all scans end, with an error to their clients."""
        self._stopping.set()
        self._threads.shutdown(wait=True)

    def _claim(self, folder: ScanFolder) -> bool:
        try:
            given_up = folder.is_given_up()
            if not given_up and folder.claim():
                return True
            if not given_up and folder.silent_seconds() < _DEAD:
                return False
        except OSError as exc:
            raise StorageUnavailable(f"{folder.path}: cannot be made: {exc.strerror}") from exc
        self._staging.remove_folder(folder.path)
        if given_up:
            raise RequestCancelled("the scan was closed before its beginning")
        raise EngineDied("the worker that scanned the table has died; scan again")

    def _perform(self, query: Scan, folder: ScanFolder) -> None:
        told: dict[str, Any] | DeltaqError
        try:
            work = self._staging.new_work_path()
            parts = Parts(folder, work, patience=self._patience, stopping=self._stopping)
            version, engine = self._router.scan(query, parts)
            told = {
                "version": version,
                "rows": parts.rows,
                "engine": engine,
                "value": {"parts": parts.count},
            }
        except DeltaqError as exc:
            self._staging.remove_folder(folder.path)
            told = exc
        except Exception as exc:
            logger.exception("scan %s of table %s failed", query.request_id, query.table)
            self._staging.remove_folder(folder.path)
            told = EngineDied(f"the scan failed: {type(exc).__name__}: {exc}", table=query.table)
        finally:
            with self._lock:
                self._active.discard(folder)
        self._settle(query, told)

    def _show_life(self) -> None:
        while not self._stopping.wait(_SIGN):
            with self._lock:
                active = list(self._active)
            for folder in active:
                try:
                    folder.show_life()
                except OSError as exc:  # closed by its client, which its thread will find
                    logger.debug("%s: %s", folder.path, exc)
