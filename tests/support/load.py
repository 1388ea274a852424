"""A steady load: one thread that keeps some requests waiting for a table."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import pyarrow as pa

from deltaq.client import Client, TransientError


class Load:
    """Appends to a table all the time, so that a committer always has something to do.

    Attributes:
        futures: What was submitted, in order.

    Args:
        client: Submits.
        table: Where to.
        at_once: Requests that wait at the same time, at most.
        pause: Seconds between two submissions, at least.
    """

    def __init__(
        self, client: Client, table: str, *, at_once: int = 100, pause: float = 0.0
    ) -> None:
        self.futures: list[Any] = []
        self._client = client
        self._table = table
        self._at_once = at_once
        self._pause = pause
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"load-{table}")

    def _run(self) -> None:
        waiting: deque[Any] = deque()
        number = 0
        while not self._ended.wait(self._pause):
            while len(waiting) >= self._at_once or (waiting and waiting[0].done()):
                waiting.popleft().exception(60)
            identity = f"{self._table}-{number:06}"
            try:
                future = self._client.append(
                    self._table, pa.table({"n": [number]}), request_id=identity
                )
            except TransientError:
                continue  # the same again
            waiting.append(future)
            self.futures.append(future)
            number += 1

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
