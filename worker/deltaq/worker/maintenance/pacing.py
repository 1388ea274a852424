"""How often a worker does a slice of maintenance, so that those who write do not notice."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from deltaq.tasks.policy import CLIENT_ID
from deltaq.tasks.request import Lane, Maintenance, Request
from deltaq.worker.groups import CommitGroup

#: Seconds for which a table counts as written to after a commit.
_WRITTEN = 5.0
#: Seconds that a table rests because the worker is at the maintenance of another one.
_OCCUPIED = 0.5
#: Tables remembered.
_REMEMBERED = 1024


class Pacing:
    """Lets the maintenance lane of a table rest after a slice while others write to the table.

    One slice at a time runs in a worker, whatever the table. Each method may be called by any
    thread.

    Args:
        share: Of the time, what slices may take of a table that is written to, and of the worker
            if a policy asks for them.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._slice = threading.Lock()
        self._lock = threading.Lock()
        #: ``time.monotonic()`` before which no policy's slice begins.
        self._budget_from = 0.0
        self._written: OrderedDict[str, float] = OrderedDict()
        self._rests_until: OrderedDict[str, float] = OrderedDict()

    def note(self, group: CommitGroup) -> None:
        """Note that a group was committed: somebody writes to its table, unless it was ours."""
        if not isinstance(group.first, Maintenance):
            self._remember(self._written, group.table, time.monotonic())

    def rests(self, table: str) -> bool:
        """Tell whether the maintenance lane of a table is to be left alone for now."""
        return time.monotonic() < self._rests_until.get(table, 0.0)

    @contextmanager
    def slice(self, request: Request) -> Iterator[bool]:
        """Hold the worker's right to do a slice; False if it is held for another table.

        Only what is in the maintenance lane needs it. Afterwards the lane rests, if the table is
        written to.
        """
        if request.lane is not Lane.MAINTENANCE:
            yield True
            return
        table, began = request.table, time.monotonic()
        asked_for = request.client_id != CLIENT_ID
        if not asked_for and began < self._budget_from:
            self._remember(self._rests_until, table, self._budget_from)
            yield False
            return
        if not self._slice.acquire(blocking=False):
            self._remember(self._rests_until, table, began + _OCCUPIED)
            yield False
            return
        try:
            yield True
        finally:
            self._slice.release()
            ended = time.monotonic()
            rest = (ended - began) * (1 / self._share - 1)
            if began - self._written.get(table, -math.inf) < _WRITTEN:
                self._remember(self._rests_until, table, ended + rest)
            if not asked_for:
                self._budget_from = ended + rest

    def _remember(self, known: OrderedDict[str, float], table: str, moment: float) -> None:
        with self._lock:
            known[table] = moment
            known.move_to_end(table)
            if len(known) > _REMEMBERED:
                known.popitem(last=False)
