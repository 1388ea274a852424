"""The end of a worker that does not end by itself."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.inbox import LANES, Inbox
from deltaq.worker.lease import Leases
from deltaq.worker.warm import WarmSpark

logger = logging.getLogger(__name__)

#: Exit code of a worker that did not finish what it had begun.
STOPPED_AT_ONCE = 5
#: Seconds for what is done before the process ends: Redis may hang, and so may a JVM.
_GRACE = 2.0


class Emergency:
    """Ends the process at once when a worker that stops is told so again, or takes too long.

    It is as safe as SIGKILL, which may come at any time: what is committed is found in the
    table's ledger by the next worker, what is not is still in the inbox. But the leases are
    given back, and nothing counts as a crash.

    Args:
        leases: The leases of this worker.
        inbox: Where its requests wait.
        warm: Its Spark, if it has one.
        limit: Seconds that it may take to stop in order.
        farewell: Says that the worker ends, so that nobody misses it.
    """

    def __init__(
        self,
        *,
        leases: Leases,
        inbox: Inbox,
        warm: WarmSpark | None,
        limit: float,
        farewell: Callable[[], None],
    ) -> None:
        self._leases = leases
        self._inbox = inbox
        self._warm = warm
        self._limit = limit
        self._farewell = farewell
        self._told_again = threading.Event()

    def arm(self) -> None:
        """Begin to count: the next SIGTERM or SIGINT ends the process. For the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._told_again.set())
        # A signal may interrupt whatever holds a lock: only a thread can do more than set a flag.
        threading.Thread(target=self._watch, name="deltaq-emergency", daemon=True).start()

    def _watch(self) -> None:
        if self._told_again.wait(self._limit):
            logger.warning("told again to stop: stopping at once")
        else:
            logger.warning("not stopped within %g s: stopping at once", self._limit)
        last_acts = [
            threading.Thread(target=act, daemon=True) for act in (self._give_back, self._farewell)
        ]
        if self._warm is not None:
            last_acts.append(threading.Thread(target=self._warm.stop, daemon=True))
        deadline = time.monotonic() + _GRACE
        for act in last_acts:
            act.start()
        for act in last_acts:
            act.join(max(0.0, deadline - time.monotonic()))
        logging.shutdown()
        os._exit(STOPPED_AT_ONCE)

    def _give_back(self) -> None:
        for lease in self._leases.held():
            try:
                for lane in LANES:
                    self._inbox.unclaim(lease.table, lane, token=lease.token)
                self._leases.release(lease, lanes=LANES, force=True)
            except DeltaqError as exc:
                logger.warning("table %s was not given back: %s", lease.table, exc)
