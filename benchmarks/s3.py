"""Lake and staging area in S3: an S3 server on the same machine, for both sides."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.support.s3 import S3Server
from tests.support.s3_proxy import S3Proxy

from benchmarks.many import Contest
from benchmarks.results import Result, compared
from benchmarks.run import PATIENCE, Race, Run, race
from benchmarks.tables import ROWS, Audit, audit, frame, total
from benchmarks.work import APPEND, append_bare
from benchmarks.writers import clients, succeeded
from deltaq.client import Client
from deltaq.tasks.location import Location, parse_location
from deltaq.worker import System, embedded

#: Of ``s3_workers``: seconds by which each call is late, as those to AWS are, writers, and tables.
_LATENCY, _WRITERS, _TABLES = 0.05, 20, 100


def s3_append_idle(run: Run) -> list[Result]:
    """One append at a time, from submit to result, on a table in S3 that is else idle."""
    times, warm_up = run.size(60, 3), run.size(6, 1)
    frames = [frame(1, n) for n in range(times + warm_up)]
    with S3Server() as server, _system(server) as system, clients(system, 1) as (client,):
        bare = _place(server) / "bare"
        append_bare(bare, APPEND.first())
        client.append("idle", APPEND.first()).result(PATIENCE)
        mine, theirs = iter(frames), iter(frames)
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda: client.append("idle", next(mine)).result(PATIENCE),
            "bare": lambda: append_bare(bare, next(theirs)),
        }
        medians = run.milliseconds(ways, times=times, warm_up=warm_up)
        found = audit(system.settings.lake / "idle", [APPEND.first(), *frames])
    result = compared(
        "s3_append_idle",
        medians["ours"],
        medians["bare"],
        baseline_name="bare delta-rs on S3, which opens its table",
        unit="ms",
        goal=("at most", 3),
        notes=f"{times} in turns, {ROWS} rows, submit to result: {found}",
        correct=found.clean,
    )
    return [result]


def s3_append_async_10(run: Run) -> list[Result]:
    """Ten writers that gather their futures at the end, on a table in S3."""
    contest = Contest(run, APPEND, writers=10, each=200, waiting=False, bare_each=30)
    with S3Server() as server, _system(server) as system:
        return [contest.hold("s3_append_async_10", system, _place(server), times=15)]


def s3_workers(run: Run) -> list[Result]:
    """Twenty writers and a hundred tables in S3 that is as far away as AWS: four workers or one."""
    rates: dict[int, list[float]] = {1: [], 2: [], 4: []}
    audits: list[Audit] = []
    with S3Server() as server, S3Proxy(server) as proxy:
        for number in range(run.rounds):
            # Who goes first changes, as who goes second finds a warmer machine.
            for workers in list(rates)[:: -1 if number % 2 else 1]:
                run.say(f"s3_workers: {workers} of them, round {number + 1} of {run.rounds}")
                with _system(server, workers=workers, endpoint=proxy.endpoint) as system:
                    done, found = _spread(run, system, proxy)
                rates[workers].append(done.rate)
                audits.append(found)
    found = total(audits)
    one, two, four = (sorted(rates[workers])[run.rounds // 2] for workers in rates)
    result = compared(
        "s3_workers",
        four,
        one,
        baseline_name="one worker",
        unit="appends/s",
        goal=("at least", 2),
        notes=f"4 workers against 1 (2: {two:.1f}/s), {_WRITERS} writers that wait, {_TABLES} "
        f"tables, {1000 * _LATENCY:g} ms a call, all on this machine: {found}",
        correct=found.clean,
    )
    return [result]


def _spread(run: Run, system: System, proxy: S3Proxy) -> tuple[Race, Audit]:
    """Have each writer append to tables of its own, one after another, waiting for each result."""
    each, rounds = _TABLES // _WRITERS, run.size(2, 1)
    tables = [[f"t_{writer}_{n}" for n in range(each)] for writer in range(_WRITERS)]
    with clients(system, _WRITERS) as made:
        first = [made[0].append(t, frame(w, 0)) for w, own in enumerate(tables) for t in own]
        failed = sum(not succeeded(future) for future in first)

        def write(client: Client, writer: int) -> tuple[int, int]:
            wanted = [(t, r) for r in range(1, rounds + 1) for t in tables[writer]]
            done = sum(succeeded(client.append(t, frame(writer, r))) for t, r in wanted)
            return done, len(wanted) - done

        proxy.latency = _LATENCY
        try:
            done = race([partial(write, client, writer) for writer, client in enumerate(made)])
        finally:
            proxy.latency = 0.0
    audits = [
        audit(system.settings.lake / table, [frame(writer, r) for r in range(rounds + 1)])
        for writer, own in enumerate(tables)
        for table in own
    ]
    return done, total([*audits, Audit(failed=failed + done.failed, lost=0, doubled=0)])


@contextlib.contextmanager
def _system(
    server: S3Server, *, workers: int = 1, endpoint: str | None = None, **settings: Any
) -> Iterator[System]:
    """Run Redis, durable as deployed, and workers whose lake is a new folder of the bucket."""
    lake = f"s3://{server.bucket}/{secrets.token_hex(6)}"
    found = server.settings(endpoint)
    with embedded(lake, workers=workers, spark="off", **found, **settings) as system:
        system.wait_ready()
        yield system
    shutil.rmtree(system.log.parent)


def _place(server: S3Server) -> Location:
    """Name a new folder of the bucket, for tables that no worker knows."""
    return parse_location(f"s3://{server.bucket}/{secrets.token_hex(6)}", server.options())
