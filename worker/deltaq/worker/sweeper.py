"""Finds what was forgotten: tables nobody was woken for, files nobody removed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import redis

from deltaq.tasks import keys
from deltaq.tasks.connection import queue_errors
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.inbox import LANES, Inbox
from deltaq.tasks.location import Location
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.backfill.service import Backfills
from deltaq.worker.outcomes import bury
from deltaq.worker.recovery import Recovery
from deltaq.worker.s3_uploads import abort_uploads

logger = logging.getLogger(__name__)

#: Seconds between two looks at the staging area, and the age below which a file is left alone.
_CLEAN_INTERVAL = 300.0
#: Seconds without a change after which a file that is being written is one of the dead: rows that
#: come to a client slowly are written as they come.
_UNFINISHED = 86400.0
#: Seconds that a wake-up may take from its sender to a worker that takes the lease, with none
#: and with others before it. One too many costs a look at the lease.
_SHORT_WAY, _LONG_WAY = 1.0, 10.0
_BATCH = 500
#: Dead letters removed in one go.
_MOST_DEAD = 10_000


class Sweeper:
    """Rings forgotten tables and removes files that are no longer needed, in its own thread.

    Of all workers on one Redis, one sweeps at a time.

    Args:
        client: Connections to the queue's Redis.
        inbox: Where requests wait.
        staging: Where files are left.
        settings: Intervals and how long things are kept.
        ring: Sends a wake-up.
        rung: Counts the wake-ups of a lane, of all tables, that no worker has taken yet.
        recovery: Finds the tables of which Redis may have forgotten something.
        backfills: Those in the staging area; each worker looks at them, and takes parts.
    """

    def __init__(
        self,
        client: redis.Redis,
        inbox: Inbox,
        staging: StagingArea,
        settings: Settings,
        *,
        ring: Callable[[str, Lane], None],
        rung: Callable[[Lane], int],
        recovery: Recovery,
        backfills: Backfills,
    ) -> None:
        self._client = client
        self._inbox = inbox
        self._staging = staging
        self._settings = settings
        self._ring = ring
        self._rung = rung
        self._recovery = recovery
        self._backfills = backfills
        self._cleaned = 0.0
        self._closing = self._hurried = False
        self._put_off = ""  # why, so that the same is not told each second
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deltaq-sweeper", daemon=True)

    def start(self) -> None:
        """Begin to sweep, at once and then every ``sweep_interval`` seconds."""
        self._thread.start()

    def hurry(self) -> None:
        """Sweep now: something that tables waited for has come."""
        self._hurried = True
        self._woken.set()

    def close(self) -> None:
        """End the thread, after a last sweep.

        A wake-up that was on its way to this worker is lost with its connections. See
        ``test_a_rolling_restart_fails_no_request_and_makes_no_table_wait_for_two_seconds``.
        """
        self._closing = True
        self._woken.set()
        if self._thread.ident is None:  # the worker ended before it served
            return
        self._thread.join()
        try:
            self.sweep()
        except DeltaqError as exc:
            logger.info("no last sweep: %s; other workers will", exc)

    def _run(self) -> None:
        while True:
            try:
                hurried, self._hurried = self._hurried, False
                if hurried or self._is_its_turn():
                    self.sweep(hurried=hurried)
                    self.recover()
                self._backfills.sweep()
                if time.monotonic() - self._cleaned >= _CLEAN_INTERVAL:
                    self._cleaned = time.monotonic()
                    self.clean(older_than=_CLEAN_INTERVAL)
                    self._backfills.expire()
            except DeltaqError as exc:
                if self._put_off != exc.message:
                    logger.warning("sweeps are put off: %s", exc)
                self._put_off = exc.message
            except Exception:
                # Whatever it was, forgotten tables must be found the next time.
                logger.exception("sweep put off")
            else:
                if self._put_off:
                    logger.info("sweeps go on")
                self._put_off = ""
            self._woken.wait(self._settings.sweep_interval)
            self._woken.clear()
            if self._closing:
                return

    def _is_its_turn(self) -> bool:
        milliseconds = int(self._settings.sweep_interval * 900)
        with queue_errors():
            return bool(self._client.set(keys.SWEEP, "1", nx=True, px=milliseconds))

    def sweep(self, *, hurried: bool = False) -> int:
        """Ring the tables with requests for which no wake-up is under way; return how many lanes.

        Args:
            hurried: Ring whatever waits: what it was rung for before may have been in vain.

        Raises:
            QueueUnavailable: Redis or the broker did not answer.
        """
        patience = {lane: 0.0 if hurried else self._patience(lane) for lane in LANES}
        forgotten = self._inbox.forgotten(patience)
        for lane, tables in forgotten.items():
            for table in tables:
                self._ring(table, lane)
        return sum(map(len, forgotten.values()))

    def _patience(self, lane: Lane) -> float:
        """Say how long a wake-up may be under way: long only while the broker has some."""
        return _LONG_WAY if self._rung(lane) else _SHORT_WAY

    def recover(self) -> int:
        """Ring the tables with staged files of which Redis may have forgotten something.

        Whoever takes the lease of one restores it first. Returns how many were rung.

        Raises:
            QueueUnavailable, StorageUnavailable: Nobody knows; look again later.
        """
        doubtful = self._recovery.doubtful()
        if not doubtful or self._rung(Lane.LIVE) >= len(doubtful):
            return 0
        for table in doubtful:
            self._ring(table, Lane.LIVE)
        return len(doubtful)

    def clean(self, *, older_than: float, unfinished_for: float = _UNFINISHED) -> int:
        """Remove old results of reads and dead letters, and staged files of what is long settled.

        Such a file is left when a worker died between an acknowledgement and the removal; that
        of a request that failed becomes a dead letter. A file whose request is queued, or
        unknown to Redis, stays: it may be the only copy. What was not staged to its end, because
        the process died that staged it, goes after ``unfinished_for`` seconds.

        Returns:
            How many files and folders were removed or moved.
        """
        removed = 0
        for result in _older(self._staging.results(), self._settings.read_ttl):
            self._staging.remove_folder(result)
            removed += 1
        for work in _older(self._staging.old_work(), self._settings.read_ttl):
            self._staging.remove_folder(work)
            removed += 1
        if keep := self._settings.dead_letter_ttl:
            # The word why it died is as old as the dead letter, the file older than that.
            words = _older(self._staging.root.glob("dead/*/*.json"), keep)
            for word in islice(words, _MOST_DEAD):
                self._staging.remove(word.with_suffix(".parquet"))
                self._staging.remove(word)
                removed += 1
        for unfinished in _older(self._staging.unfinished(), unfinished_for):
            self._staging.remove(unfinished)
            removed += 1
        files = _older(self._staging.root.glob("requests/*/*.parquet"), older_than)
        while batch := list(islice(files, _BATCH)):
            outcomes = self._inbox.outcomes([(f.parent.name, f.stem) for f in batch])
            for file, outcome in zip(batch, outcomes, strict=True):
                if not isinstance(outcome, Outcome):
                    continue
                if outcome.state is State.FAILED:
                    bury(self._staging, outcome)
                else:
                    self._staging.remove(file)
                removed += 1
        for root in (self._settings.lake, self._settings.staging):
            if root is not None:
                removed += abort_uploads(root, older_than=unfinished_for)
        return removed


def _older(paths: Iterable[Location], seconds: float) -> Iterator[Location]:
    limit = time.time() - seconds
    for path in paths:
        try:
            if path.stat().st_mtime < limit:
                yield path
        except FileNotFoundError:
            continue  # removed by its owner meanwhile
