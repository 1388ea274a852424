"""The Java that is found, or what the worker says about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltaq.tasks.errors import ConfigurationError
from deltaq.worker.java import find_java


def install(home: Path, answer: str, *, status: int = 0) -> Path:
    """Put a program that answers like another Java into ``home/bin``."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{answer}\nEND\nexit {status}\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("major", [17, 21])
def test_a_java_that_spark_runs_on_is_found_on_the_path(tmp_path: Path, major: int) -> None:
    program = install(tmp_path, f'openjdk version "{major}.0.2" 2025-01-21')

    java = find_java({"PATH": str(program.parent)})

    assert (java.executable, java.major) == (program, major)


def test_java_home_goes_before_the_path(tmp_path: Path) -> None:
    chosen = install(tmp_path / "home", 'openjdk version "21" 2023-09-19')
    other = install(tmp_path / "other", 'openjdk version "17.0.1" 2021-10-19')

    java = find_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": str(other.parent)})

    assert java.executable == chosen


def test_options_that_java_echoes_do_not_hide_its_version(tmp_path: Path) -> None:
    answer = 'Picked up JAVA_TOOL_OPTIONS: -Dx=1\nopenjdk version "17.0.15" 2025-04-15'
    program = install(tmp_path, answer)

    assert find_java({"PATH": str(program.parent)}).major == 17


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('java version "1.8.0_401"', "is Java 8"),
        ('openjdk version "11.0.22" 2024-01-16', "is Java 11"),
        ('openjdk version "25" 2025-09-16', "is Java 25"),
        ("Unable to locate a Java Runtime.", "does not tell its version: 'Unable to locate"),
    ],
)
def test_a_wrong_java_is_named_with_what_to_install(tmp_path: Path, answer: str, said: str) -> None:
    program = install(tmp_path, answer)

    with pytest.raises(ConfigurationError) as caught:
        find_java({"PATH": str(program.parent)})

    assert said in caught.value.message
    assert str(program) in caught.value.message
    assert "install" in caught.value.message
    assert "17 or 21" in caught.value.message


def test_no_java_at_all_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no Java: .* openjdk-17-jre-headless"):
        find_java({"PATH": str(tmp_path)})


def test_a_java_home_without_java_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"JAVA_HOME is {tmp_path}, but"):
        find_java({"JAVA_HOME": str(tmp_path), "PATH": "/usr/bin"})


def test_a_java_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)

    with pytest.raises(ConfigurationError, match=f"{program} does not run"):
        find_java({"PATH": str(program.parent)})
