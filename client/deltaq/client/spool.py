"""Submissions made while Redis is down, and the thread that brings them in when it is back."""

from __future__ import annotations

import logging
import random
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from deltaq.client.listener import Listener
from deltaq.client.pending import Pending
from deltaq.client.staging import Staged
from deltaq.tasks.errors import QueueFull, QueueUnavailable
from deltaq.tasks.request import Lane, Request, operation_of
from deltaq.tasks.staging import StagingArea

logger = logging.getLogger(__name__)

#: Seconds between two looks at a Redis that is down, or full: the first pause and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

_LaneKey = tuple[str, Lane]


@dataclass(eq=False, slots=True)
class _Held:
    """One submission.

    Attributes:
        staged: The request; its rows are in its staged file.
        pending: What waits for its outcome.
        sent: A try got no answer, or is on its way: Redis may have it.
    """

    staged: Staged
    pending: Pending
    sent: bool

    @property
    def lane(self) -> _LaneKey:
        return self.staged.request.table, self.staged.request.lane


class Spool:
    """Holds submissions of one client, in order for each lane of a table.

    The thread runs while there are any. What is held when the process ends is in the staging
    area, for ``deltaq recover``.

    Args:
        submit: Brings a submission in; raises QueueFull or QueueUnavailable to have it held on.
        probe: Raises QueueUnavailable while Redis is down.
        listener: Where futures wait.
        staging: Where the staged files are.
        limit: Most submissions to hold.
    """

    def __init__(
        self,
        *,
        submit: Callable[[Staged, Pending], None],
        probe: Callable[[], None],
        listener: Listener,
        staging: StagingArea,
        limit: int,
    ) -> None:
        self._submit = submit
        self._probe = probe
        self._listener = listener
        self._staging = staging
        self._limit = limit
        self._lanes: dict[_LaneKey, OrderedDict[str, _Held]] = {}
        self._count = 0
        self._down = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def queue(self, staged: Staged, pending: Pending) -> bool:
        """Hold a submission without a try if Redis is down, or its lane is held already.

        Returns:
            Whether it is held; if not, it may be tried.

        Raises:
            QueueUnavailable: The spool is full.
        """
        held = _Held(staged, pending, sent=False)
        with self._lock:
            if not self._down and held.lane not in self._lanes:
                return False
            self._hold(held)
        return True

    def hold(self, staged: Staged, pending: Pending, reason: QueueUnavailable) -> None:
        """Hold a submission that was tried in vain.

        Raises:
            QueueUnavailable: The spool is full.
        """
        with self._lock:
            if not self._down:
                logger.warning("submissions are held until Redis is back: %s", reason)
            self._down = True
            self._hold(_Held(staged, pending, sent=not never_left(reason)))

    def _hold(self, held: _Held) -> None:
        request_id = held.staged.request.request_id
        if request_id in self._lanes.get(held.lane, ()):
            return
        if self._closing.is_set() or self._count >= self._limit:
            raise QueueUnavailable(
                f"Redis is down and the spool takes no more: it holds {self._count} requests "
                f"(limit: spool_max_requests={self._limit})",
                details={"spooled": self._count, "max_requests": self._limit},
            )
        self._lanes.setdefault(held.lane, OrderedDict())[request_id] = held
        self._count += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="deltaq-spool", daemon=True)
            self._thread.start()

    def cancel(self, request: Request) -> bool:
        """Let a submission go; False if it is not held, or Redis may have it."""
        with self._lock:
            lane = self._lanes.get((request.table, request.lane))
            held = lane.get(request.request_id) if lane else None
            if held is None or held.sent:
                return False
            self._let_go(held)
        return True

    def close(self, *, timeout: float) -> None:
        """End the thread after a last try of ``timeout`` seconds; fail the futures of the rest.

        Their staged files are kept.
        """
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        with self._lock:
            left = [held for lane in self._lanes.values() for held in lane.values()]
            self._lanes, self._count = {}, 0
        if left:
            logger.warning(
                "closed with %d requests held that Redis has not got; their staged files in %s "
                "are kept: deltaq recover --apply submits them",
                len(left),
                self._staging.root,
            )
        for held in left:
            self._listener.fail(held.pending.future, self._left_behind(held.staged.request))

    def _left_behind(self, request: Request) -> QueueUnavailable:
        path = self._staging.request_path(request.table, request.request_id)
        return QueueUnavailable(
            f"the client was closed while {operation_of(request)} {request.request_id} on table "
            f"{request.table} was held for a Redis that was down; the staged file {path} is kept: "
            f"deltaq recover --apply submits it, and so does the same call with "
            f"request_id={request.request_id!r}",
            request_id=request.request_id,
            table=request.table,
            details={"staged_file": str(path)},
        )

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            closing = self._closing.is_set()
            went_in = self._bring_in()
            with self._lock:
                if closing or not self._lanes:
                    self._thread = None  # the next one that is held starts another
                    return
            pause = _FIRST_PAUSE if went_in else min(2 * pause, _LONGEST_PAUSE)
            self._closing.wait(random.uniform(pause / 2, pause))

    def _bring_in(self) -> int:
        """Submit what is held as far as Redis takes it, and return how many went in."""
        went_in = 0
        try:
            self._probe()
            with self._lock:
                self._down = False
                lanes = list(self._lanes)
            for lane in lanes:
                went_in += self._bring_in_lane(lane)
        except QueueUnavailable:
            with self._lock:
                self._down = True
        except Exception:  # this thread must not end while futures wait
            logger.exception("what is held did not go in; trying again")
        if went_in:
            logger.info("%d requests that were held are submitted", went_in)
        return went_in

    def _bring_in_lane(self, lane: _LaneKey) -> int:
        went_in = 0
        while held := self._head(lane):
            try:
                self._submit(held.staged, held.pending)
            except QueueFull:
                held.sent = False
                break
            except QueueUnavailable:
                raise
            except Exception as exc:  # those behind it must not wait for ever
                self._listener.fail(held.pending.future, exc)
            with self._lock:
                self._let_go(held)
            went_in += 1
        return went_in

    def _head(self, lane: _LaneKey) -> _Held | None:
        with self._lock:
            held = next(iter(self._lanes[lane].values())) if lane in self._lanes else None
            if held is not None:
                held.sent = True  # from now on only Redis can cancel it
            return held

    def _let_go(self, held: _Held) -> None:
        lane = self._lanes.get(held.lane)
        if lane is None or not lane.pop(held.staged.request.request_id, None):
            return  # closed meanwhile
        self._count -= 1
        if not lane:
            del self._lanes[held.lane]


def never_left(error: BaseException | None) -> bool:
    """Tell whether an error says that there was no connection to send anything by."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError | FileNotFoundError):
            return True
        error = error.__cause__ or error.__context__
    return False
