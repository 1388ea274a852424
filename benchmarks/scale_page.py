"""``python -m benchmarks.scale_page``: put what was measured and simulated last into docs/scale.md."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.pages import put
from benchmarks.scale import Measured
from benchmarks.scale_model import (
    Costs,
    Crowd,
    Deployment,
    Load,
    in_a_crowd,
    in_commit,
    most,
    redis_cores,
    s3_calls,
)
from benchmarks.simulation.figures import Phase
from benchmarks.simulation.picture import drawing
from benchmarks.simulation.play import BURST, IDLE, STEADY, Found, rows

_ROOT = Path(__file__).parents[1]
_RESULTS = _ROOT / "benchmarks" / "results"
PAGE, PICTURE = _ROOT / "docs" / "scale.md", _ROOT / "docs" / "scale.svg"
#: Seconds of a call of S3, as it is within a region of AWS.
_CALL = 0.02
#: What the page tells the limits of: a name, a load and a deployment.
_EXAMPLES = [
    ("1 worker, 1 table, disk", Load(tables=1), Deployment(workers=1)),
    ("1 worker, 100 tables, disk", Load(tables=100), Deployment(workers=1)),
    ("1 worker, 100 tables, S3", Load(tables=100), Deployment(workers=1, call_seconds=_CALL)),
    (
        "1 worker, 100 tables, S3, `concurrency` 16",
        Load(tables=100),
        Deployment(workers=1, concurrency=16, call_seconds=_CALL),
    ),
    (
        "20 workers, 1,000 tables, S3",
        Load(tables=1000),
        Deployment(workers=20, concurrency=16, call_seconds=_CALL),
    ),
    (
        "500 workers, 10,000 tables, S3",
        Load(tables=10_000),
        Deployment(workers=500, concurrency=16, call_seconds=_CALL, redis_memory=64e9),
    ),
]
#: In them outcomes are kept for an hour: what seven days of them take is told beside it.
_HOUR = 1 / 24


def page() -> str:
    """Write the page anew."""
    measured = msgspec.json.decode((_RESULTS / "scale.json").read_bytes(), type=Measured)
    found = simulated()
    text = PAGE.read_text()
    crowded = in_a_crowd(measured.costs, _crowd(found))
    for marker, table in {
        "constants": _constants(measured.costs),
        "checks": _checks(measured),
        "limits": _limits(crowded),
        "simulation": _simulation(found, crowded),
    }.items():
        text = put(text, marker, table)
    return text


def simulated() -> Found:
    """Read the last simulation."""
    return msgspec.json.decode((_RESULTS / "simulation.json").read_bytes(), type=Found)


def _constants(costs: Costs) -> str:
    return _table(
        ["", "for each request", "for each commit", "for each MB", "idle, a second"],
        [
            ["core of a client, ms", *_told(costs.client_request, None, costs.client_megabyte)],
            [
                "core of a worker, ms",
                *_told(
                    costs.worker_request,
                    costs.worker_commit,
                    costs.worker_megabyte,
                    costs.worker_idle,
                ),
            ],
            [
                "core of Redis, ms",
                *_told(costs.redis_request, costs.redis_commit, None, costs.redis_idle),
            ],
            ["writes of S3", *_told(costs.s3_writes_request, costs.s3_writes_commit)],
            ["reads of S3", *_told(costs.s3_reads_request, costs.s3_reads_commit)],
            ["calls of S3", *_told(None, None, None, costs.s3_idle)],
        ],
    ) + (
        f"\nA commit takes {1000 * costs.commit_seconds:.0f} ms on a disk, which is waited for "
        f"{costs.disk_megabyte:.1f} ms for each MB; in S3 it waits for "
        f"{costs.s3_round_trips:.0f} calls of S3, one after the other. Redis keeps "
        f"{costs.waiting_bytes:.0f} bytes of a request that waits, {costs.outcome_bytes:.0f} of an "
        "outcome.\n"
    )


def _checks(measured: Measured) -> str:
    return _table(
        [
            "not fitted",
            "ms for a request: the model",
            "measured",
            "off by",
            "rate: the model",
            "measured",
        ],
        [
            [
                c.name,
                f"{c.predicted_ms}",
                f"{c.measured_ms}",
                f"{100 * c.off:+.0f} %",
                f"{c.predicted_rate:.0f}/s",
                f"{c.measured_rate:.0f}/s",
            ]
            for c in measured.checks
        ],
    )


def _limits(costs: Costs) -> str:
    lines = []
    for name, load, given in _EXAMPLES:
        deployment = msgspec.structs.replace(given, outcome_days=_HOUR)
        rate, used = most(load, deployment, costs)
        members = in_commit(rate, load)
        writes, reads = s3_calls(rate, rate / members, deployment.workers, costs)
        calls = f"{writes:,.0f} and {reads:,.0f}" if deployment.call_seconds is not None else ""
        week = rate * 7 * 86400 * costs.outcome_bytes / 1e9
        lines.append(
            [
                name,
                f"{rate:,.0f}",
                f"{members:.1f}",
                f"{used[0].of}: {used[0].add}",
                f"{used[1].of}, {100 * used[1].share:.0f} %",
                calls,
                f"{week:,.0f} GB",
            ]
        )
    heads = ["", "requests/s", "in a commit", "first limit: add", "then"]
    return _table([*heads, "S3: writes, reads/s", "outcomes of 7 days"], lines)


def _simulation(found: Found, costs: Costs) -> str:
    cast, fair, burst = found.cast, found.fairness, _phase(found, BURST)
    (_, names), *told = rows(found.phases)
    rate = burst.requests / burst.seconds
    by_model = redis_cores(rate, rate, cast.workers, costs)
    return (
        f"{cast.tables:,} tables, {cast.workers} workers that make {cast.concurrency} commits of "
        f"{cast.commit_seconds:g} s at once, {cast.rate:g} requests a second.\n\n"
        + _table(["", *names], [[heading, *values] for heading, values in told])
        + f"\nOf {found.submitted:,} requests {found.lost} were lost, {found.failed} failed, and "
        f"{found.misplaced} groups were out of order. Under the steady load Jain's index of the "
        f"tables' mean times is {fair.jain} (1 when all are served alike); the median of hot tables "
        f"is {fair.hot_median_seconds:.2f} s, of the others {fair.cold_median_seconds:.2f} s, and "
        f"the slowest table took {fair.slowest_table_seconds:.2f} s.\n\nFor a request with a commit "
        f"of its own Redis uses {costs.redis_request + costs.redis_commit:.2f} ms of its core, for a "
        f"worker without work {costs.redis_idle:.2f} ms a second, as idle workers and the steady "
        f"load tell. For the burst, which does not, that makes {by_model:.2f} cores; it used "
        f"{burst.redis_cores:.2f}.\n"
    )


def _crowd(found: Found) -> Crowd:
    steady = _phase(found, STEADY)
    return Crowd(
        workers=found.cast.workers,
        idle_cores=_phase(found, IDLE).redis_cores,
        rate=steady.requests / steady.seconds,
        cores=steady.redis_cores,
    )


def _phase(found: Found, name: str) -> Phase:
    return next(phase for phase in found.phases if phase.name == name)


def _told(*values: float | None) -> list[str]:
    filled = [*values, *[None] * (4 - len(values))]
    return ["" if value is None else f"{value:.2g}" for value in filled]


def _table(heads: list[str], lines: list[list[str]]) -> str:
    rule = "|".join("---" for _ in heads)
    body = ["| " + " | ".join(line) + " |" for line in [heads, *lines]]
    return "\n".join([body[0], f"|{rule}|", *body[1:]]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    PICTURE.write_text(drawing(simulated()))
