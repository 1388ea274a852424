"""The thread that hears outcomes and resolves futures.

Outcomes come by pub/sub. A message that was lost with a connection would leave a future
waiting, so the requests' hashes are read too: on each subscription and every few seconds.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Any

import msgspec
import redis

from deltaq.client.future import Future
from deltaq.client.pending import Pending
from deltaq.tasks import keys
from deltaq.tasks.errors import QueueUnavailable, ResultTimeout
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.outcome import Outcome, State, decode_outcomes

logger = logging.getLogger(__name__)

#: Seconds between two readings of the hashes of all that waits.
_LOOK_SECONDS = 3.0
#: With many requests waiting, looking is rarer: one part in so many of the thread's time.
_LOOK_SHARE = 20
#: Requests looked up in one round trip.
_LOOK_CHUNK = 500
#: Seconds before connecting again: the first pause and the longest. Submissions wait for it.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
#: Seconds that closing waits for the thread, which a hung Redis may hold.
_CLOSE_SECONDS = 2.0


class Listener:
    """Resolves the futures of one client. The thread starts with the first of them.

    Args:
        client: Connections to the queue's Redis; one is held for the subscription.
        inbox: Where outcomes are looked up.
        client_id: Whose channel to hear.
    """

    def __init__(self, client: redis.Redis, inbox: Inbox, client_id: str) -> None:
        self._client = client
        self._inbox = inbox
        self._channel = keys.client_channel(client_id)
        self._pending: dict[tuple[str, str], Pending] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._subscribed = threading.Event()
        self._trouble: Exception | None = None
        self._closing = threading.Event()

    def start(self) -> None:
        """Begin to listen. What settles before the subscription is there is looked up then."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="deltaq-listener", daemon=True
                )
                self._thread.start()

    def subscribe(self, *, timeout: float) -> None:
        """Make sure that outcomes are heard from now on.

        Raises:
            QueueUnavailable: There was no subscription within ``timeout`` seconds.
        """
        self.start()
        if not self._subscribed.wait(timeout):
            raise QueueUnavailable(
                f"Redis did not answer within {timeout:g} s"
                f"{f' ({self._trouble})' if self._trouble else ''}; check that it runs and that "
                "redis_url is right"
            )

    def add(self, pending: Pending) -> Pending:
        """Wait for an outcome.

        Returns:
            What waits for it: another one if the same request waits already.
        """
        with self._lock:
            return self._pending.setdefault(_key(pending.future), pending)

    def discard(self, future: Future[Any]) -> None:
        """Stop waiting for an outcome."""
        with self._lock:
            self._pending.pop(_key(future), None)

    def settle(self, outcome: Outcome) -> None:
        """Resolve the future of a request, if one waits for it."""
        with self._lock:
            pending = self._pending.pop((outcome.table, outcome.request_id), None)
        if pending is not None:
            pending.settle(outcome)

    def fail(self, future: Future[Any], error: Exception) -> None:
        """Fail a future, if it waits."""
        with self._lock:
            pending = self._pending.pop(_key(future), None)
        if pending is not None:
            pending.future.set_exception(error)

    def stop(self) -> None:
        """Let the thread end within seconds; safe to call from anywhere, at any time."""
        self._closing.set()

    def close(self) -> None:
        """End the thread and fail what still waits with ``ResultTimeout``."""
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            with contextlib.suppress(redis.exceptions.RedisError):
                self._client.publish(self._channel, b"[]")  # wakes it
            self._thread.join(_CLOSE_SECONDS)
        with self._lock:
            left, self._pending = list(self._pending.values()), {}
        for pending in left:
            future = pending.future
            future.set_exception(
                ResultTimeout(
                    f"the client was closed before the outcome of {future.operation} "
                    f"{future.request_id} on table {future.table} came; the request goes on",
                    request_id=future.request_id,
                    table=future.table,
                )
            )

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closing.is_set():
            try:
                with self._client.pubsub() as heard:  # type: ignore[no-untyped-call]
                    heard.subscribe(self._channel)
                    self._listen(heard)
            except (redis.exceptions.RedisError, QueueUnavailable, OSError) as exc:
                if self._trouble is None:  # one line for an outage, not one for each try
                    logger.warning("outcomes are not heard: %s; connecting again", exc)
                self._trouble = exc
            except Exception:  # this thread must not end while futures wait
                logger.exception("outcomes are not heard; connecting again")
            pause = _FIRST_PAUSE if self._subscribed.is_set() else min(2 * pause, _LONGEST_PAUSE)
            self._subscribed.clear()
            self._closing.wait(pause)

    def _listen(self, heard: Any) -> None:
        look_at = time.monotonic() + _LOOK_SECONDS
        while not self._closing.is_set():
            message = heard.get_message(timeout=max(0.0, look_at - time.monotonic()))
            if message and message["type"] == "subscribe":
                # Also after the connection was lost and silently replaced.
                self._subscribed.set()
                self._trouble = None
                look_at = 0.0
            elif message and message["type"] == "message":
                self._hear(message["data"])
            if (began := time.monotonic()) >= look_at:
                self._look()
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

    def _look(self) -> None:
        with self._lock:
            waiting = [item for item in self._pending.items() if item[1].known]
        for start in range(0, len(waiting), _LOOK_CHUNK):
            chunk = waiting[start : start + _LOOK_CHUNK]
            answers = self._inbox.outcomes([key for key, _ in chunk])
            for (_, pending), answer in zip(chunk, answers, strict=True):
                self._learn(pending, answer)

    def _learn(self, pending: Pending, answer: Outcome | State | None) -> None:
        if isinstance(answer, Outcome):
            self.settle(answer)
        elif answer is not None:
            pending.queued()
        elif error := pending.unknown():
            self.fail(pending.future, error)


def _key(future: Future[Any]) -> tuple[str, str]:
    return future.table, future.request_id
