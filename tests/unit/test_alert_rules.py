"""The shipped alerts, under promtool: what each waits for, when it fires and when it clears."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.prometheus import ALERTS, ROOT, alerting_rules, promtool

RULES = {rule["alert"]: rule for rule in alerting_rules()}
_MINUTE = 4  # samples


@dataclass(kw_only=True)
class Course:
    """Series, a sample each quarter of a minute, and what the alert does meanwhile."""

    alert: str
    series: dict[str, str]
    #: Minutes at which it must fire, and those at which it must not.
    fires: tuple[float, ...]
    calm: tuple[float, ...]
    labels: dict[str, str]


def stretch(*parts: tuple[float | str, float]) -> str:
    """Write the samples of a series: each value for so many minutes, ``_`` for none."""
    return " ".join(f"{value}x{int(minutes * _MINUTE) - 1}" for value, minutes in parts)


def problem(check: str) -> dict[str, str]:
    return {
        f'deltaq_problem{{instance="a", check="{check}"}}': stretch((0, 2), (1, 10), (0, 8)),
        f'deltaq_problem{{instance="b", check="{check}"}}': stretch((0, 20)),
    }


COURSES = [
    Course(
        alert="DeltaqNoWorker",
        # Without a mark that a series has ended, Prometheus takes its last value for 5 minutes.
        series={
            'deltaq_build_info{instance="a"}': f"{stretch((1, 2))} stale {stretch(('_', 5), (1, 5))}"
        },
        fires=(4, 6),
        calm=(1, 2.5, 8, 10),
        labels={},
    ),
    Course(
        alert="DeltaqWorkerLost",
        series={
            'deltaq_lost_worker_silent_seconds{instance="a", worker="b@host"}': (
                f"{stretch(('_', 2))} {stretch((30, 15))} stale"
            )
        },
        fires=(2.5, 10),
        calm=(1, 18),
        labels={"worker": "b@host"},
    ),
    Course(
        alert="DeltaqRedisUnreachable",
        series=problem("redis"),
        fires=(3.5, 11),
        calm=(1, 2.5, 12.5),
        labels={"check": "redis"},
    ),
    Course(
        alert="DeltaqStorageUnusable",
        series=problem("lake"),
        fires=(3.5, 11),
        calm=(1, 2.5, 12.5),
        labels={"check": "lake"},
    ),
    Course(
        alert="DeltaqSparkDown",
        series=problem("spark"),
        fires=(7.5, 11),
        calm=(1, 6, 12.5),  # a start takes less than five minutes
        labels={"check": "spark"},
    ),
    Course(
        alert="DeltaqQueueTooOld",
        series={
            'deltaq_queue_oldest_seconds{instance="a", lane="live"}': stretch(
                (100, 2), (130, 5), (2, 5)
            ),
            'deltaq_queue_oldest_seconds{instance="a", lane="bulk"}': stretch((4000, 12)),
        },
        fires=(3.5, 6.5),
        calm=(1.5, 2.5, 8),
        labels={"lane": "live"},
    ),
    Course(
        alert="DeltaqBacklogTooOld",
        series={
            'deltaq_queue_oldest_seconds{instance="a", lane="bulk"}': stretch(
                (20_000, 2), (22_000, 15), (0, 5)
            ),
        },
        fires=(13, 16),
        calm=(1, 11, 18),
        labels={"lane": "bulk"},
    ),
    Course(
        alert="DeltaqTablesRetrying",
        series={'deltaq_queue_retrying_tables{instance="a"}': stretch((0, 2), (3, 8), (0, 5))},
        fires=(7.5, 9.5),
        calm=(1, 6, 11),
        labels={},
    ),
    Course(
        alert="DeltaqDeadLetters",
        series={'deltaq_dead_letters_total{instance="a"}': stretch((7, 5), (8, 25))},
        fires=(6, 19),
        calm=(4, 21),
        labels={},
    ),
    Course(
        alert="DeltaqLeaseFlapping",
        series={
            # Twenty leases lost at once are one stop; four times one lease is trouble.
            'deltaq_leases_lost_total{instance="a"}': stretch((0, 2), (20, 38)),
            'deltaq_leases_lost_total{instance="b"}': stretch(
                (0, 18), (1, 1), (2, 1), (3, 1), (4, 19)
            ),
        },
        fires=(22, 32),
        calm=(4, 20, 37),
        labels={},
    ),
    Course(
        alert="DeltaqDiskFilling",
        series={
            'deltaq_disk_free_bytes{instance="a", folder="lake"}': stretch(
                (300, 5), (40, 10), (300, 5)
            ),
            'deltaq_disk_size_bytes{instance="a", folder="lake"}': stretch((1000, 20)),
        },
        fires=(11, 14),
        calm=(4, 9, 16),
        labels={"folder": "lake"},
    ),
    Course(
        alert="DeltaqMemoryHigh",
        series={'deltaq_memory_used_ratio{instance="a"}': stretch((0.9, 2), (0.95, 10), (0.5, 5))},
        fires=(7.5, 11.5),
        calm=(1, 6, 13),
        labels={"instance": "a"},
    ),
]


def test_each_alert_has_its_course() -> None:
    assert sorted(course.alert for course in COURSES) == sorted(RULES)


@pytest.mark.parametrize("course", COURSES, ids=lambda course: course.alert)
def test_an_alert_fires_in_time_and_clears_by_itself(course: Course, tmp_path: Path) -> None:
    checks = [(minute, True) for minute in course.fires]
    checks += [(minute, False) for minute in course.calm]
    case = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": s, "values": v} for s, v in course.series.items()],
                # Of the texts only promtool knows what they come to; whether it fires is a series.
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{course.alert}", alertstate="firing"'
                        + "".join(f', {k}="{v}"' for k, v in course.labels.items())
                        + "})",
                        "eval_time": f"{int(minute * 60)}s",
                        "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                    }
                    for minute, fires in sorted(checks)
                ],
            }
        ],
    }
    file = tmp_path / "case.yml"
    file.write_text(yaml.safe_dump(case))

    promtool("test", "rules", str(file))


def test_prometheus_takes_the_shipped_configuration() -> None:
    said = promtool("check", "config", str(ROOT / "deploy/prometheus/prometheus.yml"))

    assert f"{len(RULES)} rules found" in said


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(rule: dict[str, object]) -> None:
    runbook = (ROOT / "docs/runbook.md").read_text()
    labels, annotations = rule["labels"], rule["annotations"]
    assert isinstance(labels, dict)
    assert isinstance(annotations, dict)
    name = str(rule["alert"])

    assert labels["severity"] in ("critical", "warning")
    assert annotations["runbook"] == f"docs/runbook.md#{name.lower()}"
    section = runbook.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert [f"**{part}**" in section for part in ("Means", "Look at", "Do")] == [True] * 3, name


def test_the_runbook_has_no_section_without_an_alert() -> None:
    runbook = (ROOT / "docs/runbook.md").read_text()
    sections = [line[3:] for line in runbook.splitlines() if line.startswith("## ")]

    assert sections[0] == "Where to look first"
    assert sections[1:] == list(RULES)
