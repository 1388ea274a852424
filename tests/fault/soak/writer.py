"""A program with some of the writers, each a thread with a client of its own.

Run with ``python -m``. Ends, when the file STOP is there, after all its futures have resolved.
A line of ``told-<writer>`` for each request says what its caller was told.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import Any, TextIO

from deltaq.client import Client, DeltaqError, ResultTimeout, TransientError
from tests.fault.soak.plan import Work, works

logger = logging.getLogger("writer")

#: Futures that a writer that does not wait holds at most.
_AT_ONCE = 100
#: Seconds to wait for an outcome before it counts as never told.
PATIENCE = 240.0


class Writer:
    """Submits its work at a steady rate; every second writer waits for each outcome.

    Args:
        number: Which writer it is.
        told: Where what it is told is written.
        rate: Requests in a second, at most.
    """

    def __init__(self, number: int, told: TextIO, rate: float) -> None:
        self._number = number
        self._told = told
        self._pause = 1 / rate
        self._pending: deque[Any] = deque()
        self._at_once = 1 if number % 2 else _AT_ONCE

    def run(self, stop: Path, *, spark: bool) -> None:
        pacing = threading.Event()
        with Client() as client:
            for work in takewhile(lambda _: not stop.exists(), works(self._number, spark=spark)):
                self._pending.append(_submit(client, work))
                while len(self._pending) >= self._at_once or self._head_is_done():
                    self._tell(self._pending.popleft())
                pacing.wait(self._pause)
            while self._pending:
                self._tell(self._pending.popleft())

    def _head_is_done(self) -> bool:
        return bool(self._pending) and self._pending[0].done()

    def _tell(self, future: Any) -> None:
        version = error = None
        try:
            version = future.result(PATIENCE).version
        except ResultTimeout:
            error = "pending"
        except DeltaqError as exc:
            error = exc.code
        self._told.write(json.dumps([future.request_id, version, error]) + "\n")


def _submit(client: Client, work: Work) -> Any:
    while True:
        try:
            return work.submit(client)
        except TransientError as exc:
            logger.info("%s; trying again", exc)
            time.sleep(0.1)


def _write(number: int) -> None:
    folder, rate = Path(os.environ["TOLD"]), float(os.environ["RATE"])
    with (folder / f"told-{number}").open("w") as told:
        writer = Writer(number, told, rate)
        writer.run(Path(os.environ["STOP"]), spark=bool(os.environ["SPARK"]))


def _main() -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    numbers = [int(n) for n in os.environ["WRITERS"].split(",")]
    with ThreadPoolExecutor(len(numbers)) as pool:
        list(pool.map(_write, numbers))


if __name__ == "__main__":
    _main()
