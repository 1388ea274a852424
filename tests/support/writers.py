"""Writer processes: what many programs do to one queue at once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from deltaq.client import Client, load_settings


def frame(writer: int, number: int, rows: int) -> pa.Table:
    """Make rows that tell who wrote them, with a key that no other frame has."""
    key = (writer * 1_000_000 + number * 1_000) + np.arange(rows)
    return pa.table(
        {
            "key": key,
            "writer": np.full(rows, writer),
            "number": np.full(rows, number),
            "price": key / 7,
        }
    )


def write(
    env: dict[str, str], writer: int, table: str, others: list[str], appends: int, merges: int
) -> dict[str, list[str]]:
    """Submit appends, and merges into what they wrote; return the request ids by table, in order.

    Every fifth append also goes to another table.
    """
    os.environ.update(env)
    ids: dict[str, list[str]] = {}
    futures = []
    with Client(load_settings()) as client:
        for number in range(appends):
            rows = frame(writer, number, 1000)
            futures.append(client.append(table, rows))
            if number % 5 == 0 and others:
                futures.append(client.append(others[number // 5 % len(others)], rows))
            if number < merges:
                fixed = rows.set_column(3, "price", pa.array(np.full(1000, -1.0)))
                futures.append(client.merge(table, fixed, keys=["key"]))
        for future in futures:
            future.result(600)
            ids.setdefault(future.table, []).append(future.request_id)
    return ids


@contextmanager
def writers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Run processes that are started afresh, as programs are."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        yield pool


__all__ = ["Future", "frame", "write", "writers"]
