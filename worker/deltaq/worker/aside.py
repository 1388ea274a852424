"""Work that a committing thread hands to another one, and never waits for."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that closing waits for a thread that may hang, on a pipe that nobody reads.
_CLOSE_SECONDS = 5.0
#: Things that may wait: each may be a commit of hundreds of requests.
_ROOM = 100


class Aside(Generic[T]):
    """Has things handled in order by a thread of its own; where too many wait, some are left out.

    Args:
        handle: Handles one; when it fails that is logged, and the next one's turn.
        name: Of the thread, and of what is left out.
    """

    def __init__(self, handle: Callable[[T], None], *, name: str) -> None:
        self._handle = handle
        self._name = name
        self._waiting: queue.Queue[T | None] = queue.Queue(_ROOM)
        self._left_out = 0
        self._thread = threading.Thread(target=self._run, name=f"deltaq-{name}", daemon=True)
        self._thread.start()

    def put(self, thing: T) -> None:
        """Have a thing handled soon, or left out; return at once."""
        try:
            self._waiting.put_nowait(thing)
        except queue.Full:
            self._left_out += 1

    def close(self) -> None:
        """Handle what waits, for some seconds at most, and end the thread."""
        try:
            self._waiting.put(None, timeout=_CLOSE_SECONDS)
        except queue.Full:  # it hangs, and must not keep the worker from its end
            return
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while (thing := self._waiting.get()) is not None:
            left_out, self._left_out = self._left_out, 0
            if left_out:
                logger.warning("%s: %d were left out, it is too slow", self._name, left_out)
            try:
                self._handle(thing)
            except Exception:  # the thread must not end; a commit is not its affair
                logger.exception("%s: one was left out", self._name)
