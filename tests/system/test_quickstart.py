"""The program that the README shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import environment

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.py"

EXPECTED = """\
append made version 0
merge made version 1
symbol  price
  AMZN  68.87
   IBM 100.52
  MSFT  39.81
"""


@pytest.mark.timeout(180)
def test_the_quickstart_appends_merges_and_reads(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, QUICKSTART],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.stdout == EXPECTED, ended.stderr
    assert ended.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_without_java_the_quickstart_says_what_to_install_instead_of_waiting() -> None:
    ended = subprocess.run(
        [sys.executable, QUICKSTART],
        env=environment(JAVA_HOME="/nowhere"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    assert "Spark needs Java 17 or 21: install one" in ended.stderr
