"""What a simulation found: values in, values out."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from benchmarks.simulation.clients import HOT_TABLES, Heard


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """How things stood at a moment.

    Attributes:
        seconds: Since the beginning.
        waiting: Requests without an outcome.
        oldest_seconds: Age of the oldest of them.
        commands: That Redis has processed since it was started.
        redis_seconds: Of the processor that Redis has used.
        players_seconds: That workers and clients have used.
        memory_bytes: That Redis has in use.
        connections: That Redis has open.
    """

    seconds: float
    waiting: int
    oldest_seconds: float
    commands: int
    redis_seconds: float
    players_seconds: float
    memory_bytes: int
    connections: int


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the simulation.

    Attributes:
        name: What happened.
        seconds: How long it took, with what it left to do.
        requests: How many were submitted in it.
        median_seconds, p99_seconds: From a submission to its outcome.
        oldest_seconds: The longest that any of them took.
        commands_per_second: Of Redis.
        redis_cores: Processor that Redis used.
        players_cores: Processor that workers and clients used.
        memory_bytes: Of Redis at the end.
        connections: Of Redis at the end.
    """

    name: str
    seconds: float
    requests: int
    median_seconds: float
    p99_seconds: float
    oldest_seconds: float
    commands_per_second: float
    redis_cores: float
    players_cores: float
    memory_bytes: int
    connections: int


class Fairness(msgspec.Struct, frozen=True, kw_only=True):
    """How much alike tables were served.

    Attributes:
        jain: Jain's index of the tables' mean times: 1 when all are alike, 1/n when one has all.
        cold_median_seconds, cold_p99_seconds: Of requests to tables with few.
        hot_median_seconds, hot_p99_seconds: Of requests to tables with many.
        slowest_table_seconds: The longest mean of a table.
    """

    jain: float
    cold_median_seconds: float
    cold_p99_seconds: float
    hot_median_seconds: float
    hot_p99_seconds: float
    slowest_table_seconds: float


def phase(name: str, samples: Sequence[Sample], heard: Iterable[Heard]) -> Phase:
    """Sum up a phase from the samples of its time, two or more, and the requests of it."""
    first, last = samples[0], samples[-1]
    seconds = last.seconds - first.seconds
    took = sorted(h.seconds for h in heard if h.phase == name)
    return Phase(
        name=name,
        seconds=round(seconds, 1),
        requests=len(took),
        median_seconds=quantile(took, 0.5),
        p99_seconds=quantile(took, 0.99),
        oldest_seconds=quantile(took, 1.0),
        commands_per_second=round((last.commands - first.commands) / seconds, 1),
        redis_cores=round((last.redis_seconds - first.redis_seconds) / seconds, 3),
        players_cores=round((last.players_seconds - first.players_seconds) / seconds, 3),
        memory_bytes=last.memory_bytes,
        connections=last.connections,
    )


def fairness(heard: Iterable[Heard], tables: int) -> Fairness:
    """Compare tables by what their requests took."""
    by_table: Mapping[int, list[float]] = defaultdict(list)
    for one in heard:
        by_table[one.table].append(one.seconds)
    means = [statistics.fmean(took) for took in by_table.values()]
    hot = max(1, int(tables * HOT_TABLES))
    warm = sorted(s for table, took in by_table.items() if table < hot for s in took)
    cold = sorted(s for table, took in by_table.items() if table >= hot for s in took)
    return Fairness(
        jain=round(jain(means), 3),
        cold_median_seconds=quantile(cold, 0.5),
        cold_p99_seconds=quantile(cold, 0.99),
        hot_median_seconds=quantile(warm, 0.5),
        hot_p99_seconds=quantile(warm, 0.99),
        slowest_table_seconds=round(max(means, default=0.0), 3),
    )


def jain(values: Sequence[float]) -> float:
    """Tell how much alike values are, by Jain's index; 1 for none."""
    squares = len(values) * sum(value * value for value in values)
    return sum(values) ** 2 / squares if squares else 1.0


def quantile(ordered: Sequence[float], part: float) -> float:
    """Tell below which value a part of ordered ones is, to the millisecond; 0 for none."""
    if not ordered:
        return 0.0
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 3)
