"""The first thing that a stranger runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.programs import environment
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

DEMO = [sys.executable, "-m", "deltaq.worker", "demo", "--writers", "3"]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files whose path is short enough for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="dq-") as folder:
        yield Path(folder)


def test_a_small_demo_checks_every_row_and_cleans_up(temporary: Path) -> None:
    ended = subprocess.run(
        [*DEMO, "--rows", "20000"],
        env=environment(TMPDIR=str(temporary)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout
    assert "Every row is there once, every request once and in order." in ended.stdout
    assert "warm SparkSession, with txn options" in ended.stdout
    assert list(temporary.iterdir()) == []


def test_ctrl_c_in_the_middle_of_the_demo_leaves_nothing_behind(temporary: Path) -> None:
    with (temporary.with_suffix(".out")).open("w+") as output:
        demo = subprocess.Popen(
            [*DEMO, "--rows", "1000000"],
            env=environment(TMPDIR=str(temporary)),
            stdout=output,
            stderr=output,
            start_new_session=True,  # a terminal of its own, so to speak
        )
        wait_until(lambda: _writers(demo.pid), within=120, saying=lambda: _text(output.name))
        family = psutil.Process(demo.pid).children(recursive=True)

        # Ctrl-C goes to every process of the terminal's foreground group.
        os.killpg(demo.pid, signal.SIGINT)

        assert demo.wait(120) != 0
        wait_until(
            lambda: not any(p.is_running() for p in family), within=10, saying=lambda: family
        )
        assert "Traceback" not in _text(output.name)
        assert list(temporary.iterdir()) == []
        Path(output.name).unlink()


def test_the_demo_leaves_a_folder_alone_that_has_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    ended = subprocess.run(
        [*DEMO, "--lake", tmp_path], env=environment(), capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert "is not empty" in ended.stderr
    assert [f.name for f in tmp_path.iterdir()] == ["notes.txt"]


def _writers(parent: int) -> list[int]:
    found = []
    for child in psutil.Process(parent).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since it was listed
            if "multiprocessing.spawn" in str(child.cmdline()):
                found.append(child.pid)
    return found


def _text(file: str) -> str:
    return Path(file).read_text()
