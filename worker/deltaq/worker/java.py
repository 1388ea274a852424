"""Finds the Java that Spark runs on, and says what to install when it will not do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deltaq.tasks.errors import ConfigurationError

#: What Spark 4.2 runs on.
SUPPORTED = (17, 21)
#: Seconds that ``java -version`` may take; it needs a fraction of one.
_ANSWER_WITHIN = 20.0

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')
_ADVICE = (
    "Spark needs Java 17 or 21: install one (Debian and Ubuntu: apt install "
    "openjdk-17-jre-headless; macOS: brew install openjdk@17) and put it on PATH or point "
    "JAVA_HOME to it"
)


@dataclass(frozen=True, kw_only=True)
class Java:
    """A Java that Spark runs on."""

    executable: Path
    major: int


def find_java(environment: Mapping[str, str] = os.environ) -> Java:
    """Find Java as Spark does: in JAVA_HOME when it is set, else on PATH.

    Raises:
        ConfigurationError: There is none, it does not run, or it is of another version;
            the message says what was found and what to install.
    """
    executable = _locate(environment)
    answer = _ask_version(executable)
    match = _VERSION.search(answer)
    if match is None:
        raise ConfigurationError(
            f"{executable} does not tell its version: {_first_line(answer)!r}. {_ADVICE}"
        )
    major = int(match[1])
    if major not in SUPPORTED:
        raise ConfigurationError(f"{executable} is Java {major}. {_ADVICE}")
    return Java(executable=executable, major=major)


def _locate(environment: Mapping[str, str]) -> Path:
    home = environment.get("JAVA_HOME")
    if home:
        executable = Path(home) / "bin" / "java"
        if not os.access(executable, os.X_OK):
            raise ConfigurationError(f"JAVA_HOME is {home}, but {executable} is no Java. {_ADVICE}")
        return executable
    found = shutil.which("java", path=environment.get("PATH", ""))
    if found is None:
        raise ConfigurationError(f"no Java: JAVA_HOME is not set, no java on PATH. {_ADVICE}")
    return Path(found)


def _ask_version(executable: Path) -> str:
    try:
        result = subprocess.run(
            [executable, "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_WITHIN,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ConfigurationError(f"{executable} does not run: {exc}. {_ADVICE}") from exc
    return result.stderr + result.stdout


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:200]
