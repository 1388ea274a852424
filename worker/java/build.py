"""Builds the JAR of our Java classes: the same bytes from the same sources, wherever it runs.

The JAR is committed, so that only who changes a source needs a JDK, which must be 17::

    python worker/java/build.py worker/deltaq/worker/log-store.jar
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

import pyspark

from deltaq.tasks.settings import load_settings
from deltaq.worker.jars import provide_jars
from deltaq.worker.java import find_java

_ROOT = Path(__file__).parent
#: Of the compiler, for each makes other bytes; and of the oldest Java that Spark runs on.
_RELEASE = "17"
#: The earliest time that a ZIP file can hold.
_TIME = (1980, 1, 1, 0, 0, 0)


def build(jar: Path) -> None:
    """Compile all sources into a JAR, against Delta's JARs and those of pyspark."""
    sources = {str(file.relative_to(_ROOT)): file for file in sorted(_ROOT.rglob("*.java"))}
    # So that a machine without a JDK can tell that a source has changed.
    sums = [f"{_sha256(file)}  {name}\n" for name, file in sources.items()]
    with tempfile.TemporaryDirectory() as name:
        classes = Path(name)
        _compile([*sources.values()], classes)
        # Not compressed: what zlib makes of the classes depends on its version.
        whole = jar.with_suffix(".new")
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, "META-INF/sources.sha256", "".join(sums).encode())
            for file in sorted(classes.rglob("*.class")):
                _add(archive, str(file.relative_to(classes)), file.read_bytes())
        whole.replace(jar)  # a JVM that runs keeps the one that it has opened


def _compile(sources: list[Path], classes: Path) -> None:
    found = subprocess.run(["javac", "-version"], check=True, capture_output=True, text=True)
    if not found.stdout.startswith(f"javac {_RELEASE}."):
        sys.exit(f"{found.stdout.strip()} is on PATH; the JAR is built with {_RELEASE}")
    delta = provide_jars(load_settings(lake=classes), find_java().executable, threading.Event())
    path = [*map(str, delta), f"{Path(pyspark.__file__).parent}/jars/*"]
    command = ["javac", "--release", _RELEASE, "-Xlint:all,-path,-classfile", "-Werror"]
    command += ["-proc:none", "-d", str(classes), "-cp", ":".join(path), *map(str, sources)]
    subprocess.run(command, check=True)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, _TIME)
    member.external_attr = 0o644 << 16
    archive.writestr(member, data)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
