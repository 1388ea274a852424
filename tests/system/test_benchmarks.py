"""The benchmarks run, and say what they found in the form that others read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(
    *arguments: str | Path | float, module: str = "benchmarks"
) -> subprocess.CompletedProcess[str]:
    # As the Makefile runs them: from the repository, so that "benchmarks" is found.
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(120)
def test_a_quick_run_writes_comparisons_and_keeps_those_of_other_benchmarks(tmp_path: Path) -> None:
    latest = tmp_path / "latest.json"
    other = {
        "name": "other",
        "ours": 1.0,
        "unit": "s",
        "goal": "at most 2 s",
        "reached": True,
        "notes": "",
    }
    latest.write_text(json.dumps([other]))

    names = ("append_sync_10", "async_5000", "read", "s3_append_idle")
    done = run(*names, "--quick", "--rounds", "1", "--out", latest)

    assert done.returncode == 0, done.stderr
    results = {result["name"]: result for result in json.loads(latest.read_text())}
    assert set(results) == {"other", "async_5000_blocked", *names}
    for name in names:
        result = results[name]
        assert set(result) == {
            *("name", "ours", "baseline", "baseline_name", "unit"),
            *("ratio", "goal", "reached", "notes"),
        }
        assert result["ours"] > 0
        assert result["baseline"] > 0
        assert name in done.stdout
    appends = results["append_sync_10"]
    assert appends["ratio"] == pytest.approx(appends["ours"] / appends["baseline"], rel=0.01)
    for name in ("append_sync_10", "async_5000", "async_5000_blocked", "s3_append_idle"):
        assert "0 failed, 0 lost, 0 doubled" in results[name]["notes"]


def test_an_unknown_benchmark_is_refused_by_name(tmp_path: Path) -> None:
    done = run("append_sync_11", "--out", tmp_path / "latest.json")
    assert done.returncode == 2
    assert "append_sync_11" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_small_simulation_commits_each_request_once_and_in_order(tmp_path: Path) -> None:
    out = tmp_path / "simulation.json"
    size = ("--tables", 60, "--workers", 10, "--seconds", 4, "--rate", 40, "--commit-seconds", 0.2)

    done = run(*size, "--out", out, module="benchmarks.simulation")

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["what"].startswith("a simulation")
    assert (found["lost"], found["failed"], found["misplaced"]) == (0, 0, 0)
    assert found["submitted"] == 60 + 2 * 80
    assert [phase["requests"] for phase in found["phases"]] == [0, 60, 80, 80]
    assert all(phase["commands_per_second"] > 0 for phase in found["phases"])
    assert 0 < found["fairness"]["jain"] <= 1
    assert "a tenth of" in done.stdout
