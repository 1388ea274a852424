"""Everything that one worker does for backfills, behind five methods."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis

from deltaq.tasks.inbox import Inbox
from deltaq.tasks.request import Lane
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.backfill.claims import Claims
from deltaq.worker.backfill.finishing import UPLOADED_WITHIN, Finisher
from deltaq.worker.backfill.preparer import Preparer
from deltaq.worker.lake import Lake
from deltaq.worker.observers import NOBODY, Observer
from deltaq.worker.warm import WarmSpark

#: Seconds between two looks for backfills in S3, where a look is a call that is paid for, while
#: there is none. Whoever is sent a hint looks at once.
_LOOK_EVERY_S3 = 10.0


class Backfills:
    """Prepares parts in the background and brings backfills to their end. Close it.

    Args:
        client: Connections to the queue's Redis.
        inbox: Where the requests to adopt go.
        settings: The settings; a worker without the bulk queue prepares nothing.
        worker: The worker's name.
        ring: Sends a wake-up.
        warm: The worker's Spark, if it has one.
        observer: Is told of parts, and of backfills that are given up.
    """

    def __init__(
        self,
        client: redis.Redis,
        inbox: Inbox,
        settings: Settings,
        *,
        worker: str,
        ring: Callable[[str, Lane], None],
        warm: WarmSpark | None = None,
        observer: Observer = NOBODY,
    ) -> None:
        lake, staging = Lake(settings.lake), StagingArea(settings.staging_root)
        claims = Claims(client, worker, lease_ttl=settings.lease_ttl)
        self._finisher = Finisher(
            staging, lake, inbox, claims, settings, ring=ring, observer=observer
        )
        self._in_s3 = isinstance(settings.staging_root, S3Path)
        self._look_at = 0.0
        self._prepares = "bulk" in settings.queues
        self._preparer = Preparer(
            finisher=self._finisher,
            claims=claims,
            lake=lake,
            work=staging.work,
            allowed=settings.backfill_sources,
            worker=worker,
            warm=warm,
            observer=observer,
        )

    def hint(self) -> None:
        """Look for parts to prepare, in the background."""
        self._look_at = 0.0
        if self._prepares:
            self._preparer.hint()

    def sweep(self) -> None:
        """Take each backfill a step further, and have parts prepared if there are any.

        Raises:
            StorageUnavailable, QueueUnavailable: Look again later.
        """
        if time.monotonic() < self._look_at:
            return
        if self._in_s3 and not self._finisher.active():
            self._look_at = time.monotonic() + _LOOK_EVERY_S3
        elif self._finisher.sweep():
            self.hint()

    def expire(self, *, unbegun_for: float = UPLOADED_WITHIN) -> int:
        """Remove what is known of backfills that ended long ago, or never began; return how many.

        Args:
            unbegun_for: Seconds without an upload after which one counts as never begun.

        Raises:
            StorageUnavailable: The staging area cannot be read now.
        """
        return self._finisher.expire(unbegun_for=unbegun_for)

    def close(self) -> None:
        """Give the part in work back to other workers."""
        self._preparer.close()
