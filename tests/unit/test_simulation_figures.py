"""What a simulation tells of its phases and tables, from samples and requests made up here."""

from __future__ import annotations

import pytest
from benchmarks.simulation.clients import Heard
from benchmarks.simulation.figures import Sample, fairness, jain, phase, quantile


def sample(seconds: float, **changed: float) -> Sample:
    values = {
        "waiting": 0,
        "oldest_seconds": 0.0,
        "commands": 0,
        "redis_seconds": 0.0,
        "players_seconds": 0.0,
        "memory_bytes": 0,
        "connections": 0,
        **changed,
    }
    return Sample(seconds=seconds, **values)  # type: ignore[arg-type]


def heard(table: int, seconds: float, name: str = "steady") -> Heard:
    return Heard(phase=name, table=table, seconds=seconds)


def test_a_phase_has_its_own_requests_and_what_was_used_between_its_samples() -> None:
    samples = [
        sample(10.0, commands=1000, redis_seconds=1.0),
        sample(14.0, commands=5000, redis_seconds=2.0, players_seconds=6.0, memory_bytes=9),
    ]
    told = phase("steady", samples, [heard(1, 0.5), heard(2, 1.5), heard(3, 9.0, "burst")])

    assert (told.requests, told.median_seconds, told.oldest_seconds) == (2, 1.5, 1.5)
    assert (told.commands_per_second, told.redis_cores, told.players_cores) == (1000, 0.25, 1.5)
    assert (told.seconds, told.memory_bytes) == (4.0, 9)


def test_hot_tables_are_told_from_others() -> None:
    told = fairness([heard(0, 4.0), heard(0, 4.0), *(heard(n, 1.0) for n in range(1, 100))], 100)

    assert (told.hot_median_seconds, told.cold_median_seconds) == (4.0, 1.0)
    assert (told.cold_p99_seconds, told.slowest_table_seconds) == (1.0, 4.0)
    assert 0.9 < told.jain < 1


@pytest.mark.parametrize(
    ("values", "index"), [([2.0] * 5, 1.0), ([1.0, 0.0, 0.0, 0.0], 0.25), ([], 1.0)]
)
def test_jains_index_is_1_when_all_are_alike(values: list[float], index: float) -> None:
    assert jain(values) == pytest.approx(index)


def test_a_quantile_is_one_of_the_values() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert [quantile(ordered, part) for part in (0.0, 0.5, 0.99, 1.0)] == [1, 51, 100, 100]
    assert quantile([], 0.5) == 0.0
