"""Which workers there are, what they tell of themselves, and which have gone silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from deltaq.tasks import keys
from deltaq.tasks.connection import Scripts, queue_errors

#: Seconds between two signs of life of a worker.
BEAT_EVERY = 2.0
#: Seconds of silence after which a worker counts as lost: three signs of life have not come.
LOST_AFTER = 3 * BEAT_EVERY
#: Seconds for which a lost worker is told of, so that somebody hears of it.
REMEMBERED = 900.0


class WorkerFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker tells of itself.

    Attributes:
        name: Its name in Celery.
        version: Of deltaq.
        pid: Process id on its machine.
        up_seconds: For how long it has been there.
        queues: What it serves.
        slots: Tasks that it can run at once.
        busy: Tasks that it runs.
        commits: How many it has made.
        settled: Requests that came to an outcome by it.
        spark: ``off``, ``starting``, ``ready``, ``failed`` or ``stopped``.
        memory_bytes: Resident memory of the worker without its JVM.
        jvm_memory_bytes: Resident memory of its JVM; 0 when there is none.
        problems: Why it is not ready, by what was checked; empty when it is.
    """

    name: str
    version: str = ""
    pid: int = 0
    up_seconds: float = 0.0
    queues: tuple[str, ...] = ()
    slots: int = 0
    busy: int = 0
    commits: int = 0
    settled: int = 0
    spark: str = "off"
    memory_bytes: int = 0
    jvm_memory_bytes: int = 0
    problems: dict[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class WorkerStatus:
    """A worker and when it was last heard of.

    Attributes:
        facts: What it told then.
        silent_seconds: Since then, by the clock of Redis.
    """

    facts: WorkerFacts
    silent_seconds: float

    @property
    def is_lost(self) -> bool:
        """Whether it ended without a word, hangs, or cannot reach Redis."""
        return self.silent_seconds > LOST_AFTER


def beat(scripts: Scripts, facts: WorkerFacts) -> None:
    """Give a sign of life.

    Raises:
        QueueUnavailable: Redis did not answer.
    """
    scripts.run(
        "beat",
        [keys.WORKERS, keys.worker(facts.name)],
        [facts.name, msgspec.json.encode(facts), int(REMEMBERED * 1000)],
    )


def leave(client: redis.Redis, name: str) -> None:
    """Say that a worker ends in order; nobody misses it.

    Raises:
        QueueUnavailable: Redis did not answer.
    """
    pipeline = client.pipeline(transaction=False)
    pipeline.zrem(keys.WORKERS, name)
    pipeline.delete(keys.worker(name))
    with queue_errors():
        pipeline.execute()


def read_workers(client: redis.Redis) -> list[WorkerStatus]:
    """List the workers, and for some minutes those that were lost, by name.

    Raises:
        QueueUnavailable: Redis did not answer.
    """
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.zrange(keys.WORKERS, 0, -1, withscores=True)
    with queue_errors():
        (seconds, microseconds), heard = pipeline.execute()
        now_ms = seconds * 1000 + microseconds / 1000
        # One command: each of some hundred workers asks for all of them.
        told: Any = client.mget([keys.worker(name) for name, _ in heard]) if heard else []
    return sorted(
        (
            WorkerStatus(
                facts=msgspec.json.decode(facts, type=WorkerFacts),
                silent_seconds=max(0.0, (now_ms - heard_ms) / 1000),
            )
            for (_, heard_ms), facts in zip(heard, told, strict=True)
            if facts is not None
        ),
        key=lambda worker: worker.facts.name,
    )
