"""The capacity model: which limit comes first, and that its constants are found again."""

from __future__ import annotations

import msgspec
import pytest
from benchmarks.scale_model import (
    Costs,
    Crowd,
    Deployment,
    Load,
    Point,
    fit,
    in_a_crowd,
    in_commit,
    most,
    redis_cores,
    s3_calls,
    uses,
)

COSTS = Costs(
    client_request=1.0,
    client_megabyte=2.0,
    worker_request=0.2,
    worker_commit=5.0,
    worker_megabyte=10.0,
    worker_idle=10.0,
    redis_request=0.1,
    redis_commit=0.3,
    redis_idle=0.2,
    redis_base=1.0,
    disk_megabyte=5.0,
    commit_seconds=0.01,
    busy_share=0.9,
    waiting_bytes=600.0,
    outcome_bytes=500.0,
    s3_writes_request=2.0,
    s3_writes_commit=3.0,
    s3_reads_request=1.0,
    s3_reads_commit=4.0,
    s3_idle=0.1,
    s3_round_trips=8.0,
)
_FITTED = ("client_", "worker_", "redis_", "disk_")
SHORT = Deployment(workers=4, outcome_days=0.01)


def test_requests_share_a_commit_that_come_while_the_first_of_them_waits() -> None:
    assert in_commit(10, Load(tables=10)) == 1
    assert in_commit(100, Load(tables=10)) == 10
    assert in_commit(100, Load(tables=10, within=0.2)) == 2
    assert in_commit(1e6, Load(tables=10)) == 500
    assert in_commit(1e6, Load(tables=10, in_commit=3)) == 3


def test_a_worker_carries_more_when_requests_may_wait_longer() -> None:
    patient, hurried = Load(tables=200, within=5.0), Load(tables=200, within=0.1)
    assert most(patient, SHORT, COSTS)[0] > 1.5 * most(hurried, SHORT, COSTS)[0]


@pytest.mark.parametrize(
    ("load", "changed", "first"),
    [
        (Load(tables=1), {"workers": 100}, "one table"),
        (Load(tables=1000), {}, "cores of workers"),
        (Load(tables=1000), {"call_seconds": 0.05}, "commits at once"),
        (Load(tables=100_000), {"workers": 1000}, "core of Redis"),
        (Load(tables=1000), {"outcome_days": 70.0}, "memory of Redis"),
        (
            Load(tables=10_000, in_commit=1),
            {"workers": 1000, "call_seconds": 0.02, "redis": 10, "redis_memory": 1e12},
            "writes of S3",
        ),
        (Load(tables=1000, megabytes=100.0), {"workers": 1000}, "the disk"),
        (Load(tables=1000), {"shared_cores": 1.0}, "cores of the machine"),
    ],
)
def test_the_first_limit_is_what_there_is_least_of(
    load: Load, changed: dict[str, float], first: str
) -> None:
    rate, used = most(load, msgspec.structs.replace(SHORT, **changed), COSTS)

    assert used[0].of == first
    assert used[0].share == pytest.approx(1, abs=1e-3)
    assert uses(1.1 * rate, load, msgspec.structs.replace(SHORT, **changed), COSTS)[0].share > 1


def test_twice_as_many_workers_carry_twice_as_much_while_they_are_the_limit() -> None:
    load = Load(tables=1000, in_commit=1)
    twice = msgspec.structs.replace(SHORT, workers=8)
    assert most(load, twice, COSTS)[0] == pytest.approx(2 * most(load, SHORT, COSTS)[0], rel=0.01)


def test_calls_of_s3_are_counted_by_requests_commits_and_workers() -> None:
    assert s3_calls(10, 5, 20, COSTS) == (10 * 2 + 5 * 3, 10 * 1 + 5 * 4 + 20 * 0.1)


def test_the_costs_of_redis_in_a_crowd_lead_to_what_it_used_there() -> None:
    crowd = Crowd(workers=100, idle_cores=0.02, rate=50, cores=0.06)
    costs = in_a_crowd(COSTS, crowd)

    assert redis_cores(0, 0, 100, costs) == pytest.approx(0.02)
    assert redis_cores(50, 50, 100, costs) == pytest.approx(0.06)
    assert costs.redis_commit == pytest.approx(3 * costs.redis_request)  # as it was


def test_the_constants_are_found_in_what_they_lead_to() -> None:
    points = {
        "apart": _point("apart", requests=100, commits=100, megabytes=0.0, seconds=2.0),
        "together": _point("together", requests=1000, commits=25, megabytes=0.0, seconds=1.0),
        "large": _point("large", requests=4, commits=4, megabytes=64.0, seconds=0.0),
    }
    large = points["large"]
    used = large.client + large.worker + large.redis + 4 * COSTS.commit_seconds
    seconds = used + 64 * COSTS.disk_megabyte / 1000
    points["large"] = msgspec.structs.replace(large, seconds=seconds)
    names = msgspec.structs.asdict(COSTS)
    found = fit(points, (COSTS.worker_idle, 1.2, COSTS.redis_base), _rest(names))

    assert msgspec.structs.asdict(found) == pytest.approx(names)


def _rest(names: dict[str, float]) -> dict[str, float]:
    return {n: v for n, v in names.items() if not n.startswith(_FITTED)}


def _point(name: str, *, requests: int, commits: int, megabytes: float, seconds: float) -> Point:
    worker = requests * COSTS.worker_request + commits * COSTS.worker_commit
    worker += megabytes * COSTS.worker_megabyte + seconds * COSTS.worker_idle
    redis = requests * COSTS.redis_request + commits * COSTS.redis_commit
    return Point(
        name=name,
        requests=requests,
        commits=commits,
        megabytes=megabytes,
        seconds=seconds,
        client=(requests * COSTS.client_request + megabytes * COSTS.client_megabyte) / 1000,
        worker=worker / 1000,
        redis=(redis + seconds * (COSTS.redis_idle + COSTS.redis_base)) / 1000,
    )
