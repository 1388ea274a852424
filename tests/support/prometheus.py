"""Debian's prometheus package: promtool, which checks, and a server that evaluates alerts."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"


def alerting_rules() -> list[dict[str, Any]]:
    """Read the alerts that are shipped."""
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def program(name: str) -> str:
    """Find one of its programs; a test that needs it does not pass without."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: make setup, or apt-get install prometheus")
    return found


def promtool(*arguments: str, given: str | None = None) -> str:
    """Run promtool, which must find nothing wrong; return what it says."""
    done = subprocess.run(
        [program("promtool"), *arguments], input=given, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def get(url: str) -> tuple[int, str]:
    """Ask for a page; return status and text, also of an error."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()


class Prometheus:
    """A running server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str) -> Any:
        status, text = get(f"{self.url}/api/v1/{path}")
        assert status == 200, text
        return json.loads(text)["data"]

    def firing(self) -> set[str]:
        """Name the alerts that fire now."""
        alerts = self.ask("alerts")["alerts"]
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.ask(f"query?{urllib.parse.urlencode({'query': expression})}")["result"])


@contextlib.contextmanager
def prometheus(folder: Path, *, rules: str, ports: Sequence[int]) -> Iterator[Prometheus]:
    """Run a server that asks workers on these ports, every second."""
    folder.mkdir()
    (folder / "rules.yml").write_text(rules)
    often = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "250ms"}
    targets = [f"127.0.0.1:{port}" for port in ports]
    config = {
        "global": often,
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "deltaq", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until(lambda: _answers(address), within=30, saying=log.read_text)
        yield Prometheus(f"http://{address}")
    finally:
        server.terminate()
        server.wait(20)


def _answers(address: str) -> bool:
    try:
        return get(f"http://{address}/-/ready")[0] == 200
    except OSError:
        return False
