"""What ``import deltaq.client`` costs whoever only wants to hand over a frame."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: What only a worker, the command line or somebody with settings needs.
HEAVY = ("celery", "deltalake", "kombu", "pandas", "pydantic", "pyspark", "rich", "typer")
#: CPU seconds: a busy machine must not make the test fail.
MOST = 0.35


def run(program: str) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, check=True, timeout=50
    ).stdout


@pytest.mark.parametrize("program", ["import deltaq.client", "from deltaq.client import Client"])
def test_importing_the_client_brings_nothing_heavy(program: str) -> None:
    loaded = run(f"import sys\n{program}\nprint(*sys.modules)").split()

    assert [name for name in HEAVY if name in loaded] == []


def test_the_client_is_imported_in_a_third_of_a_second() -> None:
    program = (
        "import time\nbegan = time.process_time()\nimport deltaq.client\n"
        "print(time.process_time() - began)"
    )
    run(program)  # compiles what was not

    assert min(float(run(program)) for _ in range(5)) < MOST
