"""A program that queues many requests while no worker runs, then waits for all of them.

Run with ``python -m``. Writes what it took into the file ANSWER, once all is queued and again
at the end.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from deltaq.client import Client

TABLE = "queued"
#: Submissions at the same time: most of one is waiting for the disk.
_THREADS = 8
#: Of each thread, after which libraries are loaded and all connections open.
_FIRST = 10
#: Seconds to wait for the last outcome.
_PATIENCE = 900.0


def _peak_bytes() -> int:
    # Not ru_maxrss, which begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def _tell(**facts: Any) -> None:
    answer = Path(os.environ["ANSWER"])
    whole = answer.with_suffix(".new")
    whole.write_text(json.dumps(facts))
    whole.rename(answer)


def _all(lists: Iterable[list[Any]]) -> list[Any]:
    return [one for some in lists for one in some]


def _main() -> None:
    count = int(os.environ["REQUESTS"])
    began = time.monotonic()
    with Client() as client:

        def submit(numbers: range) -> list[Any]:
            return [client.append(TABLE, pa.table({"n": [number]})) for number in numbers]

        with ThreadPoolExecutor(_THREADS) as pool:
            shares = [range(thread, count, _THREADS) for thread in range(_THREADS)]
            futures = _all(pool.map(submit, [share[:_FIRST] for share in shares]))
            base_bytes = _peak_bytes()
            futures += _all(pool.map(submit, [share[_FIRST:] for share in shares]))
        queued = {
            "submit_seconds": time.monotonic() - began,
            "base_bytes": base_bytes,
            "peak_bytes": _peak_bytes(),
        }
        _tell(**queued)
        deadline = time.monotonic() + _PATIENCE
        versions = [f.result(deadline - time.monotonic()).version for f in futures]
        _tell(
            **queued | {"peak_bytes": _peak_bytes()},
            outcomes=len(versions),
            told=time.time(),
        )


if __name__ == "__main__":
    _main()
