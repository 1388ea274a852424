"""The clients of a simulation: they submit requests, and hear what came of them."""

from __future__ import annotations

import contextlib
import itertools
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import msgspec

from benchmarks.simulation.crew import table_name
from deltaq.tasks import keys
from deltaq.tasks.broker import make_celery, ring
from deltaq.tasks.connection import connect
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.outcome import Outcome, State, decode_outcomes
from deltaq.tasks.request import Append, Lane, new_request_id
from deltaq.tasks.settings import Settings

#: Which part of the tables is hot, and which part of the steady load goes to those.
HOT_TABLES, HOT_LOAD = 0.01, 0.2
#: Rows and bytes that the requests pretend to bring.
_ROWS, _BYTES = 1000, 32_000
#: How many clients there are: each has a channel and a thread of its own.
_CLIENTS = 20


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """A request of which the client has heard.

    Attributes:
        phase: In which it was submitted.
        table: The number of its table.
        seconds: From its submission until its outcome was heard.
    """

    phase: str
    table: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Submitted:
    phase: str
    table: int
    at: float


class Clients:
    """Submits appends without rows, as many programs would. Close it.

    Args:
        settings: Where Redis is.
        tables: How many there are.
    """

    def __init__(self, settings: Settings, tables: int) -> None:
        self._redis = connect(settings)
        self._inbox = Inbox(self._redis, settings)
        self._app = make_celery(settings)
        self._tables = tables
        self._random = random.Random(0)
        self._ids = [secrets.token_hex(16) for _ in range(_CLIENTS)]
        self._waiting: dict[str, _Submitted] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self.heard: deque[Heard] = deque()
        self.failed = 0
        self._listener.start()

    def burst(self, phase: str) -> None:
        """Submit one request to each table, as fast as it goes, in no order."""
        numbers = self._random.sample(range(self._tables), self._tables)
        with ThreadPoolExecutor(_CLIENTS) as threads:
            list(threads.map(partial(self._submit, phase), numbers, self._channels()))

    def steady(self, phase: str, *, rate: float, seconds: float) -> None:
        """Submit requests at a rate, some tables being hot."""
        began = time.monotonic()
        with ThreadPoolExecutor(_CLIENTS) as threads:
            submitted = []
            for number, channel in zip(
                range(round(rate * seconds)), self._channels(), strict=False
            ):
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
                submitted.append(threads.submit(self._submit, phase, self._any_table(), channel))
        for done in submitted:
            done.result()

    def waiting(self) -> tuple[int, float]:
        """Tell how many requests have no outcome, and the age of the oldest."""
        with self._lock:
            oldest = next(iter(self._waiting.values()), None)
            return len(self._waiting), time.monotonic() - oldest.at if oldest else 0.0

    def look_up(self) -> None:
        """Ask Redis for the outcomes that were not heard of, as clients do now and then."""
        with self._lock:
            asked = [(table_name(s.table), i) for i, s in self._waiting.items()]
        for found in self._inbox.outcomes(asked):
            if isinstance(found, Outcome):
                self._hear(found)

    def close(self) -> None:
        """End the listener."""
        self._closing.set()
        self._listener.join()
        self._redis.close()

    def _channels(self) -> Iterator[str]:
        return itertools.cycle(self._ids)

    def _any_table(self) -> int:
        hot = max(1, int(self._tables * HOT_TABLES))
        return self._random.randrange(hot if self._random.random() < HOT_LOAD else self._tables)

    def _submit(self, phase: str, number: int, client_id: str) -> None:
        request = Append(
            request_id=new_request_id(),
            table=table_name(number),
            client_id=client_id,
            submitted_at_ms=time.time_ns() // 1_000_000,
            digest=secrets.token_hex(16),
            size_bytes=_BYTES,
            rows=_ROWS,
            shape="s",
        )
        with self._lock:
            self._waiting[request.request_id] = _Submitted(
                phase=phase, table=number, at=time.monotonic()
            )
        if self._inbox.submit(request).ring:
            ring(self._app, request.table, Lane.LIVE)

    def _listen(self) -> None:
        channel = self._redis.pubsub()  # type: ignore[no-untyped-call]  # redis-py tells no types
        with contextlib.closing(channel):
            channel.subscribe(*map(keys.client_channel, self._ids))
            while not self._closing.is_set():
                for outcome in _told(channel.get_message(timeout=0.1)):
                    self._hear(outcome)

    def _hear(self, outcome: Outcome) -> None:
        with self._lock:
            submitted = self._waiting.pop(outcome.request_id, None)
        if submitted is None:
            return
        self.failed += outcome.state is not State.COMMITTED
        self.heard.append(
            Heard(
                phase=submitted.phase,
                table=submitted.table,
                seconds=time.monotonic() - submitted.at,
            )
        )


def _told(message: dict[str, object] | None) -> Iterator[Outcome]:
    if message is not None and message["type"] == "message":
        yield from decode_outcomes(str(message["data"]))
