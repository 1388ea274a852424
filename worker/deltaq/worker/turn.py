"""What a worker knows while it has a table."""

from __future__ import annotations

import threading
import time

from deltaq.tasks.errors import LeaseLost
from deltaq.tasks.request import Lane
from deltaq.worker.groups import Claims
from deltaq.worker.lease import Lease


class Turn:
    """One worker's turn at a table: what it knows while it holds the lease."""

    def __init__(self, lease: Lease, time_slice: float) -> None:
        self.lease = lease
        self.deadline = time.monotonic() + time_slice
        #: Last committed sequence by lane; absent when the table must be asked.
        self.ledgers: dict[Lane, int] = {}
        self.groups = 0
        #: The last group was a slice of maintenance.
        self.after_slice = False
        #: Of the last commit: its requests, and how long it took.
        self.gathered = 0
        self.commit_seconds = 0.0

    def claims(self, lane: Lane) -> Claims:
        """What is known of the claims in a lane; the lease brings it and this turn adds to it."""
        return self.lease.claims.get(lane, Claims())

    def end(self) -> None:
        """Begin no other group in this turn."""
        self.deadline = time.monotonic()

    def goes_on(self, stopping: threading.Event) -> bool:
        """Tell whether another group may begin.

        Raises:
            LeaseLost: The lease was not renewed in time.
        """
        if self.lease.lost.is_set():
            raise LeaseLost(f"the lease of table {self.lease.table} ended", table=self.lease.table)
        return time.monotonic() < self.deadline and not stopping.is_set()
