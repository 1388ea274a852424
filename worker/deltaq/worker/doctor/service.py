"""Checks of what runs elsewhere: Redis, the broker, the workers, and what waits in the queue."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import redis

from deltaq.tasks import keys
from deltaq.tasks.broker import broker_errors, count_rung, make_celery
from deltaq.tasks.connection import connect, queue_errors
from deltaq.tasks.errors import QueueUnavailable
from deltaq.tasks.inbox import LANES
from deltaq.tasks.masking import masked_url
from deltaq.tasks.settings import Settings
from deltaq.tasks.status import TableStatus, read_status
from deltaq.tasks.workers import read_workers
from deltaq.worker.doctor.finding import Finding, counted, fine, warning, wrong
from deltaq.worker.redis_check import find_weaknesses

#: Seconds that workers have to answer; they do within milliseconds unless the machine is busy.
_ANSWER_WITHIN = 2.0
#: Seconds by which clocks may differ: 'expires' and waiting times are off by as much.
_MOST_SKEW = 1.0
#: Share of Redis' memory above which clients are about to be refused.
_MUCH_MEMORY = 0.8
#: Seconds a request waits for nobody before it is told.
_LONG_WAIT = 60.0
#: Tables named in a finding.
_NAMED = 3


def check_service(settings: Settings) -> Iterator[Finding]:
    """Check Redis; and if it answers, the broker, the workers and the queue."""
    where = masked_url(settings.redis_url.get_secret_value())
    with contextlib.closing(connect(settings, retries=0)) as client:
        try:
            yield from _check_redis(client, where)
        except QueueUnavailable as exc:
            cause = str(exc.__cause__ or exc).rstrip(".")
            yield wrong("redis", f"{where}: {cause}", "start it, or correct redis_url")
            return
        yield from _check_workers(settings)
        yield from _check_signs_of_life(client)
        yield from _check_queue(settings, client)


def _check_redis(client: redis.Redis, where: str) -> Iterator[Finding]:
    with queue_errors():
        began = time.time()
        seconds, microseconds = client.time()
        took = time.time() - began
        facts: Any = client.info()
        durability = find_weaknesses(client)
    version = str(facts["redis_version"])
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < (6, 2):
        yield wrong("redis", f"version {version} is too old", "use Redis 7 or newer")
    elif major < 7:
        yield warning(
            "redis",
            f"version {version}: at its memory limit workers cannot drain it",
            "use Redis 7 or newer",
        )
    else:
        yield fine("redis", f"{version} at {where}, answers in {took * 1000:,.1f} ms")
    if facts.get("redis_mode") == "cluster":
        yield wrong("redis", "Redis Cluster, which Celery cannot use", "use a single primary")
    if facts.get("role") == "slave":
        yield wrong("redis", "a replica, which takes no writes", "give redis_url its primary")
    yield from _check_memory(facts)
    for weakness in durability.weak:
        yield warning("durable", weakness, "set it in redis.conf (docs/how-to/redis.md)")
    if durability.unchecked:
        yield warning("durable", durability.unchecked, "look it up in redis.conf")
    elif not durability.weak:
        yield fine("durable", "appendonly yes, appendfsync always, noeviction")
    yield _clock(seconds + microseconds / 1e6 - (began + took / 2))


def _check_memory(facts: dict[str, Any]) -> Iterator[Finding]:
    used, most = int(facts["used_memory"]), int(facts["maxmemory"])
    if most and used > _MUCH_MEMORY * most:
        yield warning(
            "redis",
            f"{used / most:.0%} of maxmemory is used; at 100% requests are refused (QueueFull)",
            "start more workers, raise maxmemory or lower outcome_ttl",
        )


def _clock(skew: float) -> Finding:
    if abs(skew) <= _MOST_SKEW:
        return fine("clock", f"{abs(skew) * 1000:,.0f} ms from that of Redis")
    return warning(
        "clock",
        f"this machine is {abs(skew):,.1f} s {'behind' if skew > 0 else 'ahead of'} Redis",
        "let NTP set both; 'expires' and waiting times are off by as much",
    )


def _check_workers(settings: Settings) -> Iterator[Finding]:
    with contextlib.closing(make_celery(settings)) as app:
        try:
            rung = sum(count_rung(app, lane) for lane in LANES)
            with broker_errors():
                answers: Any = app.control.inspect(timeout=_ANSWER_WITHIN).active_queues()
        except QueueUnavailable as exc:
            cause = str(exc.__cause__ or exc).rstrip(".")
            yield wrong("broker", cause, "start it, or correct broker_url")
            return
    yield fine(
        "broker", f"{masked_url(settings.celery_broker_url)}, {counted(rung, 'wake-up')} queued"
    )
    if not answers:
        yield wrong(
            "workers",
            f"none answers within {_ANSWER_WITHIN:g} s: requests are accepted, and wait",
            "start one: deltaq worker",
        )
        return
    yield fine("workers", f"{len(answers)}: {', '.join(islice(sorted(answers), _NAMED))}")
    served = {queue["name"] for queues in answers.values() for queue in queues}
    idle = [name for name, queue in keys.QUEUES.items() if queue not in served]
    if idle:
        yield warning(
            "workers",
            f"none serves {', '.join(idle)}: what goes there waits",
            f"start one: deltaq worker --queues {','.join(idle)}",
        )


def _check_signs_of_life(client: redis.Redis) -> Iterator[Finding]:
    workers = read_workers(client)
    alive = [worker.facts for worker in workers if not worker.is_lost]
    for worker in islice((w for w in workers if w.is_lost), _NAMED):
        yield warning(
            "workers",
            f"{worker.facts.name} has given no sign of life for {worker.silent_seconds:,.0f} s",
            "see in its log why it ended, and start another",
        )
    problems = (f"{facts.name}: {text}" for facts in alive for text in facts.problems.values())
    for problem in islice(problems, _NAMED):
        yield warning("workers", problem, "docs/runbook.md says what to do")


def _check_queue(settings: Settings, client: redis.Redis) -> Iterator[Finding]:
    tables = read_status(client)
    lanes = [lane for table in tables for lane in table.lanes.values()]
    waiting = sum(lane.requests for lane in lanes)
    oldest = max((lane.oldest_seconds for lane in lanes), default=0.0)
    yield fine(
        "queue",
        f"{counted(waiting, 'request')} wait{'s' if waiting == 1 else ''} in "
        f"{counted(len(tables), 'table')}, the oldest for {oldest:,.0f} s"
        if waiting
        else "no requests wait",
    )
    for table in islice((t for t in tables if t.retrying), _NAMED):
        yield _retried(table)
    stuck = [t.table for t in tables if _is_stuck(t)]
    if stuck:
        named = ", ".join(stuck[:_NAMED])
        yield warning(
            "queue",
            f"nobody is at {counted(len(stuck), 'table')}, for over {_LONG_WAIT:g} s: {named}",
            "start more workers, and see that they serve these lanes",
        )
    graves = (settings.staging_root / "dead").glob("*/*.json")
    try:
        dead = sum(1 for _ in islice(graves, 10_000))
    except OSError as exc:
        yield warning("queue", f"dead letters not counted: {exc.strerror}", "see lake and staging")
        return
    if dead:
        yield warning("queue", counted(dead, "dead letter"), "look at them: deltaq dead-letters")


def _retried(table: TableStatus) -> Finding:
    assert table.retrying is not None
    noted = table.retrying
    return warning(
        "queue",
        f"table {table.table} is tried again since {noted.since_seconds:,.0f} s: {noted.error}",
        "remove what the error names; the worker goes on by itself",
    )


def _is_stuck(table: TableStatus) -> bool:
    oldest = max(lane.oldest_seconds for lane in table.lanes.values())
    return table.holder is None and table.retrying is None and oldest > _LONG_WAIT
