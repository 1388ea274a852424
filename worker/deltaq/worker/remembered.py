"""What was lately learnt of tables, each for a while."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

#: Tables of which something is remembered.
_MOST = 1024


class Remembered:
    """A reason for each of some tables. Forgotten in time, as a table may be replaced.

    Threads may share one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def remember(self, table: str, reason: str, seconds: float) -> None:
        """Remember a reason for some seconds, in place of an earlier one."""
        with self._lock:
            self._known[table] = (time.monotonic() + seconds, reason)
            self._known.move_to_end(table)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)

    def recall(self, table: str) -> str | None:
        """Return what is remembered, if anything is."""
        with self._lock:
            until, reason = self._known.get(table, (0.0, None))
            return reason if time.monotonic() < until else None
