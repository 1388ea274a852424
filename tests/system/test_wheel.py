"""What is installed is what is in the repository: scripts, JARs and types as well."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.pages import ROOT

ROOMS = ("client", "tasks", "worker")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel that was just built."""
    folder = tmp_path_factory.mktemp("wheel")
    hatchling = str(Path(sys.executable).with_name("hatchling"))
    build = [hatchling, "build", "-t", "wheel", "-d", str(folder)]
    ended = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (wheel,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_a_wheel_has_all_files_of_the_three_rooms(packed: set[str]) -> None:
    files = {
        str(file.relative_to(ROOT / room))
        for room in ROOMS
        for file in (ROOT / room / "deltaq").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }

    assert {"deltaq/worker/log-store.jar", "deltaq/tasks/lua/submit.lua"} <= files
    assert files - packed == set()


def test_a_wheel_brings_nothing_else(packed: set[str]) -> None:
    others = {name for name in packed if not name.startswith("deltaq/")}
    assert {name.partition("/")[0].rpartition(".")[2] for name in others} == {"dist-info"}
    assert [name for name in packed if "__pycache__" in name or "/java/" in name] == []
