"""A worker's pages, and what Prometheus and Grafana are told to do with them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deltaq.tasks import keys
from deltaq.worker import System, embedded
from tests.support.programs import environment
from tests.support.prometheus import ALERTS, ROOT, free_port, get, promtool
from tests.support.waiting import wait_until

ROWS = pa.table({"k": [1, 2]})
DASHBOARD = ROOT / "deploy/grafana/dashboard.json"
_NAME = re.compile(r"\b(?:deltaq|process)_[a-z_]+\b")
#: What Prometheus makes of a histogram.
_PARTS = re.compile(r"_(bucket|sum|count)$")


class Watched:
    """A worker with pages, and what it has done."""

    def __init__(self, system: System, port: int) -> None:
        self.system = system
        self.url = f"http://127.0.0.1:{port}"

    def exposition(self) -> str:
        status, text = get(f"{self.url}/metrics")
        assert status == 200
        return text

    def names(self) -> set[str]:
        """Name every metric, with and without series."""
        return {line.split()[2] for line in self.exposition().splitlines() if "# TYPE " in line}

    def value(self, name: str, **labels: str) -> float:
        for family in text_string_to_metric_families(self.exposition()):
            for sample in family.samples:
                if sample.name == name and sample.labels.items() >= labels.items():
                    return float(sample.value)
        return 0.0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    lake, port = tmp_path_factory.mktemp("watched") / "lake", free_port()
    with embedded(lake, spark="off", metrics_port=port) as system:
        system.wait_ready()
        with system.client() as client:
            client.append("t", ROWS).result(30)
            client.merge("t", ROWS, keys="k").result(30)
            client.append("t", pa.table({"k": ["one"]})).exception(30)
            client.read("t").result(30)
            client.append("u", ROWS).result(30)
            with system.redis.connect() as redis:
                redis.hset(keys.lease("held"), mapping={"token": "t", "fence": 1})
                assert client.append("held", ROWS).cancel()
                redis.delete(keys.lease("held"))
        yield Watched(system, port)


def test_what_was_done_is_counted_by_table_operation_engine_and_outcome(watched: Watched) -> None:
    # The callers hear of it first.
    wait_until(lambda: watched.value("deltaq_dead_letters_total") == 1)
    done = {"engine": "native", "outcome": "committed"}
    assert watched.value("deltaq_requests_total", table="t", operation="append", **done) == 1
    assert watched.value("deltaq_requests_total", table="t", operation="merge", **done) == 1
    assert watched.value("deltaq_requests_total", table="u", operation="append", **done) == 1
    assert watched.value("deltaq_requests_total", table="t", outcome="failed") == 1
    assert watched.value("deltaq_request_errors_total", code="schema_mismatch") == 1
    assert watched.value("deltaq_commit_seconds_count", engine="native") == 3
    assert watched.value("deltaq_commit_rows_sum") == 6
    assert watched.value("deltaq_commit_bytes_sum") > 0
    assert watched.value("deltaq_requests_total", table="held", outcome="cancelled") == 1
    assert watched.value("deltaq_queries_total", operation="read", outcome="answered") == 1
    wait_until(lambda: watched.value("deltaq_workers", state="ready") == 1)
    assert watched.value("deltaq_slots") == 4
    wait_until(lambda: watched.value("deltaq_dead_letters") == 1, within=20)


def test_promtool_finds_nothing_to_say_of_the_exposition(watched: Watched) -> None:
    assert promtool("check", "metrics", given=watched.exposition()) == ""


def test_a_worker_is_live_and_ready_and_names_its_pages(watched: Watched) -> None:
    wait_until(lambda: get(f"{watched.url}/readyz")[0] == 200)

    status, said = get(f"{watched.url}/readyz?verbose=1")

    told = json.loads(said)
    assert (status, told["ready"], told["problems"]) == (200, True, {})
    assert told["engines"] == {"native": "ready", "spark": "off"}
    assert (len(told["workers"]["alive"]), told["workers"]["lost"]) == (1, [])
    assert get(f"{watched.url}/healthz")[0] == 200
    assert get(f"{watched.url}/") == (404, "there are /healthz, /metrics, /readyz\n")
    head = urllib.request.Request(f"{watched.url}/metrics", method="HEAD")
    with urllib.request.urlopen(head, timeout=10) as answer:
        assert (answer.status, answer.read()) == (200, b"")


def test_clients_that_say_nothing_do_not_keep_probes_waiting(watched: Watched) -> None:
    port = int(watched.url.rpartition(":")[2])
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert get(f"{watched.url}/healthz")[0] == 200


def test_two_workers_on_one_port_are_told_what_to_do(watched: Watched, tmp_path: Path) -> None:
    port = watched.url.rpartition(":")[2]
    env = environment(**{**watched.system.env, "DELTAQ_METRICS_PORT": port})
    ended = subprocess.run(
        [sys.executable, "-m", "deltaq.worker", "worker"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = ended.stdout + ended.stderr
    assert (ended.returncode, "a metrics_port of its own" in said) == (2, True), said


def used_names(text: str) -> set[str]:
    return {_PARTS.sub("", name) for name in _NAME.findall(text)}


def expressions(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel.get("targets", [])]


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text())["panels"])


def test_rules_and_dashboard_use_only_metrics_that_there_are(watched: Watched) -> None:
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    used = {name for rule in rules for name in used_names(rule["expr"])}
    used |= {name for panel in panels() for e in expressions(panel) for name in used_names(e)}

    assert used - watched.names() == set()


def test_the_page_about_metrics_names_each_of_them(watched: Watched) -> None:
    page = (ROOT / "docs/how-to/monitoring.md").read_text()
    section = page.partition("## Metrics")[2].partition("\n## ")[0]
    first = [line for line in section.splitlines() if line.startswith("| `")]
    told = {name for line in first for name in _NAME.findall(line.split("|")[1])}

    assert told == {name for name in watched.names() if name.startswith("deltaq_")}


def test_prometheus_understands_each_panel(tmp_path: Path) -> None:
    asked = [e for panel in panels() for e in expressions(panel)]
    rules = [
        {"record": f"panel_{number}", "expr": e.replace("$__rate_interval", "1m")}
        for number, e in enumerate(asked)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    assert f"{len(asked)} rules found" in promtool("check", "rules", str(file))


def test_the_dashboard_begins_with_health_and_lays_nothing_over_another() -> None:
    found = panels()

    assert len({panel["id"] for panel in found}) == len(found)
    titles = [panel["title"] for panel in found if panel["type"] == "row"]
    assert titles == ["Is it healthy?", "Queue", "Commits", "Engines", "Workers"]
    places = [panel["gridPos"] for panel in found]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= 24 for p in places)
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    for panel in found:
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"
            assert expressions(panel)
