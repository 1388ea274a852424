"""What hears outcomes and resolves futures.

Outcomes come by pub/sub. A message that was lost with a connection would leave a future
waiting, so the requests' hashes are read too: on each subscription and every few seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import msgspec
import redis

from deltaq.client.future import BaseFuture
from deltaq.client.pending import Pending
from deltaq.client.wire import Heard, Wire
from deltaq.tasks import keys
from deltaq.tasks.errors import QueueUnavailable, ResultTimeout
from deltaq.tasks.outcome import Outcome, State, decode_outcomes

logger = logging.getLogger(__name__)

#: Seconds between two readings of the hashes of all that waits.
_LOOK_SECONDS = 3.0
#: With many requests waiting, looking is rarer: one part in so many of the listener's time.
_LOOK_SHARE = 20
#: Requests looked up in one round trip; more would hold an event loop for milliseconds.
_LOOK_CHUNK = 100
#: Seconds before connecting again: the first pause and the longest. Submissions wait for it.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0


class Listener:
    """Resolves the futures of one client. It begins to listen with the first of them.

    Args:
        wire: How to wait.
        client_id: Whose channel to hear.
    """

    def __init__(self, wire: Wire, client_id: str) -> None:
        self._wire = wire
        self._channel = keys.client_channel(client_id)
        self._pending: dict[tuple[str, str], Pending] = {}
        self._lock = threading.Lock()
        self._running: object = None
        self._subscribed = wire.flag()
        self._trouble: Exception | None = None
        self._closing = wire.flag()

    def start(self) -> None:
        """Begin to listen. What settles before the subscription is there is looked up then."""
        with self._lock:
            if self._running is None:
                self._running = self._wire.spawn(self._run, "deltaq-listener")

    async def subscribe(self, *, timeout: float) -> None:
        """Make sure that outcomes are heard from now on.

        Raises:
            QueueUnavailable: There was no subscription within ``timeout`` seconds.
        """
        self.start()
        if not await self._subscribed.wait(timeout):
            raise QueueUnavailable(
                f"Redis did not answer within {timeout:g} s"
                f"{f' ({self._trouble})' if self._trouble else ''}; check that it runs and that "
                "redis_url is right"
            )

    def __len__(self) -> int:
        """Count the futures that wait."""
        return len(self._pending)

    def add(self, pending: Pending) -> Pending:
        """Wait for an outcome.

        Returns:
            What waits for it: another one if the same request waits already.
        """
        with self._lock:
            return self._pending.setdefault(_key(pending.future), pending)

    def discard(self, future: BaseFuture[Any]) -> None:
        """Stop waiting for an outcome."""
        with self._lock:
            self._pending.pop(_key(future), None)

    def settle(self, outcome: Outcome) -> None:
        """Resolve the future of a request, if one waits for it."""
        with self._lock:
            pending = self._pending.pop((outcome.table, outcome.request_id), None)
        if pending is not None:
            pending.settle(outcome)

    def fail(self, future: BaseFuture[Any], error: Exception) -> None:
        """Fail a future, if it waits."""
        with self._lock:
            pending = self._pending.pop(_key(future), None)
        if pending is not None:
            pending.future._fail(error)

    def stop(self) -> None:
        """Let it end within seconds; safe to call from any thread that the wire knows."""
        self._closing.set()
        self._subscribed.set()  # who waits for it has nothing to wait for any more

    async def close(self) -> None:
        """Stop listening and fail what still waits with ``ResultTimeout``."""
        self.stop()
        if self._running is not None:
            await self._wire.end(self._running, self._channel)
        with self._lock:
            left, self._pending = list(self._pending.values()), {}
        for pending in left:
            future = pending.future
            future._fail(
                ResultTimeout(
                    f"the client was closed before the outcome of {future.operation} "
                    f"{future.request_id} on table {future.table} came; the request goes on",
                    request_id=future.request_id,
                    table=future.table,
                )
            )

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closing.is_set():
            try:
                async with self._wire.subscribe(self._channel) as heard:
                    await self._listen(heard)
            except (redis.exceptions.RedisError, QueueUnavailable, OSError) as exc:
                if self._trouble is None:  # one line for an outage, not one for each try
                    logger.warning("outcomes are not heard: %s; connecting again", exc)
                self._trouble = exc
            except Exception:  # it must not end while futures wait
                logger.exception("outcomes are not heard; connecting again")
            pause = _FIRST_PAUSE if self._subscribed.is_set() else min(2 * pause, _LONGEST_PAUSE)
            self._subscribed.clear()
            if await self._closing.wait(pause):
                self._subscribed.set()

    async def _listen(self, heard: Heard) -> None:
        look_at = time.monotonic() + _LOOK_SECONDS
        while not self._closing.is_set():
            message = await heard.message(max(0.0, look_at - time.monotonic()))
            if message and message["type"] == "subscribe":
                # Also after the connection was lost and silently replaced.
                self._subscribed.set()
                self._trouble = None
                look_at = 0.0
            elif message and message["type"] == "message":
                self._hear(message["data"])
            if (began := time.monotonic()) >= look_at:
                await self._look()
                ended = time.monotonic()
                look_at = ended + max(_LOOK_SECONDS, _LOOK_SHARE * (ended - began))

    def _hear(self, data: str) -> None:
        try:
            outcomes = decode_outcomes(data)
        except msgspec.DecodeError as exc:
            logger.warning("not outcomes on %s: %s", self._channel, exc)
            return
        for outcome in outcomes:
            self.settle(outcome)

    async def _look(self) -> None:
        with self._lock:
            waiting = [item for item in self._pending.items() if item[1].known]
        for start in range(0, len(waiting), _LOOK_CHUNK):
            chunk = waiting[start : start + _LOOK_CHUNK]
            answers = await self._wire.outcomes([key for key, _ in chunk])
            for (_, pending), answer in zip(chunk, answers, strict=True):
                self._learn(pending, answer)

    def _learn(self, pending: Pending, answer: Outcome | State | None) -> None:
        if isinstance(answer, Outcome):
            self.settle(answer)
        elif answer is not None:
            pending.queued()
        elif error := pending.unknown():
            self.fail(pending.future, error)


def _key(future: BaseFuture[Any]) -> tuple[str, str]:
    return future.table, future.request_id
