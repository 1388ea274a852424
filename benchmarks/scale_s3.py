"""What the capacity model wants to know of S3: how many calls there are, and which are waited for."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial

from tests.support.s3 import S3Server
from tests.support.s3_proxy import S3Proxy

from benchmarks.run import PATIENCE, Run
from benchmarks.scale_model import Sized, per_request_and_commit
from benchmarks.tables import frame
from deltaq.client import Client, Outcome
from deltaq.worker import embedded

#: Seconds by which each call is late while round trips are counted.
_LATENCY = 0.05
#: Seconds after which a worker has cleared away what it has committed.
_CLEARED = 1.0
_WRITING = ("PUT", "POST", "DELETE")


def s3_costs(run: Run) -> dict[str, float]:
    """Measure the constants that begin with ``s3_``."""
    run.say("calls of S3")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(S3Server())
        proxy = stack.enter_context(S3Proxy(server))
        lake = f"s3://{server.bucket}/{secrets.token_hex(6)}"
        given = server.settings(proxy.endpoint)
        system = stack.enter_context(embedded(lake, spark="off", **given))
        stack.callback(shutil.rmtree, system.log.parent)
        system.wait_ready()
        client = stack.enter_context(system.client())
        client.append("t", frame(0, 0)).result(PATIENCE)
        count = partial(_count, proxy)
        seconds = run.size(20, 2)
        idle = sum(count(lambda: time.sleep(seconds))[1]) / (seconds + _CLEARED)
        alone, calls_alone = count(lambda: _one_by_one(client, run.size(20, 3)))
        together, calls_together = count(lambda: _all_at_once(client, run.size(200, 10)))
        writes, reads = (
            per_request_and_commit(_sized(alone, a), _sized(together, b))
            for a, b in zip(calls_alone, calls_together, strict=True)
        )
        near = _seconds_waited(client, run.size(10, 2))
        proxy.latency = _LATENCY
        far = _seconds_waited(client, run.size(10, 2))
        proxy.latency = 0.0
    return {
        "s3_writes_request": round(writes[0], 2),
        "s3_writes_commit": round(writes[1], 2),
        "s3_reads_request": round(reads[0], 2),
        "s3_reads_commit": round(reads[1], 2),
        "s3_idle": round(idle, 2),
        "s3_round_trips": round((far - near) / _LATENCY, 1),
    }


def _count(
    proxy: S3Proxy, work: Callable[[], list[Outcome] | None]
) -> tuple[list[Outcome], tuple[int, int]]:
    """Do something; tell the outcomes, and how many calls that write and read it led to."""
    proxy.forget()
    outcomes = work() or []
    time.sleep(_CLEARED)
    by_method = proxy.round_trips()
    writing = sum(by_method[method] for method in _WRITING)
    return outcomes, (writing, by_method.total() - writing)


def _sized(outcomes: list[Outcome], calls: int) -> Sized:
    return Sized(len(outcomes), sum(1 / (o.group_size or 1) for o in outcomes), calls)


def _one_by_one(client: Client, times: int) -> list[Outcome]:
    return [client.append("t", frame(1, n)).result(PATIENCE) for n in range(times)]


def _all_at_once(client: Client, times: int) -> list[Outcome]:
    futures = [client.append("t", frame(2, n)) for n in range(times)]
    return [future.result(PATIENCE) for future in futures]


def _seconds_waited(client: Client, times: int) -> float:
    """Tell how long an append takes from when it is submitted."""
    taken = []
    for number in range(times):
        future = client.append("t", frame(3, number))
        began = time.perf_counter()
        future.result(PATIENCE)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
