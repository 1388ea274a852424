"""Waiting for room: in a lane, in the memory of Redis, on the disk of the staging area."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from deltaq.client.wire import Flag
from deltaq.tasks.errors import InvalidRequest, QueueFull, StagingFull

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Seconds before looking again whether there is room: the first pause and the longest. Each is
#: shortened at random, so that many who wait do not come at once.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
#: Seconds after which a wait is told of.
_TOLD_AFTER = 1.0


class Room:
    """How one call meets a queue or disk that is full.

    Args:
        block: Wait for room instead of failing at once.
        timeout: Most seconds to wait, all waits of the call together; None for no limit.

    Raises:
        InvalidRequest: The timeout is no number from 0, or given without ``block``.
    """

    def __init__(self, *, block: bool, timeout: float | None) -> None:
        if timeout is not None:
            if (
                isinstance(timeout, bool)
                or not isinstance(timeout, int | float)
                or not timeout >= 0
            ):
                raise InvalidRequest(f"timeout must be seconds from 0, not {timeout!r}")
            if not block:
                raise InvalidRequest(
                    "timeout says how long to wait for room: give block=True with it; how long "
                    "to wait for the outcome is for result(timeout)"
                )
        self._limit = (float("inf") if timeout is None else timeout) if block else None
        self._waited = 0.0
        self._told = False

    @property
    def waits(self) -> bool:
        """Whether to wait at all."""
        return self._limit is not None

    async def wait(self, call: Callable[[], Awaitable[T]], *, closing: Flag) -> T:
        """Call until there is room, and return what the call returns.

        Raises:
            QueueFull, StagingFull: There is none, or was none in time; the error says how long
                was waited.
            InvalidRequest: The client was closed meanwhile.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                return await call()
            except (QueueFull, StagingFull) as exc:
                if self._limit is None:
                    raise
                if self._waited >= self._limit:
                    raise self._in_vain(exc) from exc
                self._tell(exc)
            began = time.monotonic()
            pause_now = min(random.uniform(pause / 2, pause), self._limit - self._waited)
            if await closing.wait(pause_now):
                raise InvalidRequest("the client was closed while a submission waited for room")
            self._waited += time.monotonic() - began
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _tell(self, error: QueueFull | StagingFull) -> None:
        if self._waited >= _TOLD_AFTER and not self._told:
            self._told = True
            limit = "" if self._limit == float("inf") else f", {self._limit:g} s at most"
            logger.info("waiting for room%s: %s", limit, error.message)

    def _in_vain(self, error: QueueFull | StagingFull) -> QueueFull | StagingFull:
        return type(error)(
            f"{error.message}; waited {self._waited:.1f} s for room",
            request_id=error.request_id,
            table=error.table,
            details={**error.details, "waited_seconds": round(self._waited, 3)},
        )
