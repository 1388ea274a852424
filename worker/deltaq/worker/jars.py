"""The JARs of Delta and of S3: fetched once with Ivy, which pyspark brings along, and kept.

A machine that has them starts without a network.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Literal

from deltaq.tasks.errors import ConfigurationError, EngineUnavailable
from deltaq.tasks.settings import Settings
from deltaq.worker.spark_s3 import s3_options

#: What is fetched together: Delta, and what Hadoop needs for S3. A configuration of jars.xml, with
#: a file of checksums beside it.
JarSet = Literal["delta", "s3"]
#: Comes with deltaq: our own Java classes; decision 11 tells how it is built.
LOG_STORE = Path(__file__).with_name("log-store.jar")
#: Seconds for 13 MB; a repository that does not answer is given up after this.
_FETCH_WITHIN = 300.0
#: Seconds between looks at a running fetch and at the lock.
_POLL = 0.05
#: Files that an error names.
_NAMED = 5


def provide_jars(
    settings: Settings, java: Path, abort: threading.Event, *, s3: bool = False
) -> list[Path]:
    """Return the JARs that Spark needs, verified; fetch those that are not in ``settings.jars``.

    Workers that start at the same moment fetch once.

    Args:
        settings: Says where they are kept, which repository to ask, and whether S3 is used.
        java: The executable that runs Ivy.
        abort: When set, a fetch ends at once.
        s3: Have those for S3, too, although neither lake nor staging area is there.

    Raises:
        ConfigurationError: They cannot be had; the message says what to do.
        EngineUnavailable: ``abort`` was set.
    """
    folder = settings.jars
    needed = jar_sets(settings, s3=s3)
    try:
        if any(missing_jars(folder, jars) for jars in needed):
            folder.mkdir(parents=True, exist_ok=True)
            with _lock(folder / ".lock", abort):
                for jars in needed:
                    if missing_jars(folder, jars):
                        _fetch(settings, jars, java, abort)
    except OSError as exc:
        raise ConfigurationError(
            f"jars: {folder} cannot be used: {exc.strerror}; set 'jars' to another folder, or "
            f"put there: {some_of([name for jars in needed for name in pinned_jars(jars)])}"
        ) from exc
    return [folder / name for jars in needed for name in pinned_jars(jars)]


def jar_sets(settings: Settings, *, s3: bool = False) -> list[JarSet]:
    """Tell which JARs a worker with these settings needs; ``s3`` adds those for S3."""
    return ["delta", "s3"] if s3 or s3_options(settings) else ["delta"]


@functools.cache
def pinned_jars(jars: JarSet) -> dict[str, str]:
    """Read the names of the files and their SHA-256."""
    lines = (resources.files(__package__) / f"jars-{jars}.sha256").read_text().splitlines()
    return {name: digest for digest, name in map(str.split, lines)}


def missing_jars(folder: Path, jars: JarSet) -> list[str]:
    """List the names of JARs that are not in a folder as pinned."""
    pinned = pinned_jars(jars).items()
    return [name for name, digest in pinned if _sha256(folder / name) != digest]


def _sha256(file: Path) -> str | None:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except FileNotFoundError:
        return None


@contextmanager
def _lock(file: Path, abort: threading.Event) -> Iterator[None]:
    with file.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if abort.wait(_POLL):
                    raise _aborted() from None
        yield


def _fetch(settings: Settings, jars: JarSet, java: Path, abort: threading.Event) -> None:
    with tempfile.TemporaryDirectory(dir=settings.jars, prefix=".fetch-") as name:
        fetched = Path(name)
        output = _run_ivy(settings, jars, java, fetched, abort)
        wrong = missing_jars(fetched, jars)
        if wrong:
            raise ConfigurationError(
                f"JARs could not be fetched ({some_of(wrong)} missing or not as pinned): "
                f"{_reason(output)}. Check the network, name a reachable Maven repository with "
                f"'ivy_settings', or put the JARs into {settings.jars}"
            )
        for jar in pinned_jars(jars):
            (fetched / jar).replace(settings.jars / jar)


def _run_ivy(
    settings: Settings, jars: JarSet, java: Path, fetched: Path, abort: threading.Event
) -> str:
    """Run Ivy and return what it said; whether it brought the JARs is for the caller to see."""
    source = resources.files(__package__) / "jars.xml"
    with resources.as_file(source) as jars_xml, (fetched / "ivy.log").open("w+b") as log:
        command: list[str | Path] = [java, "-jar", _ivy_jar(), "-cache", fetched / "ivy"]
        if settings.ivy_settings:
            command += ["-settings", settings.ivy_settings]
        command += ["-ivy", jars_xml, "-confs", jars, "-types", "jar"]
        command += ["-retrieve", f"{fetched}/[artifact]-[revision].[ext]"]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        ) as process:
            deadline = time.monotonic() + _FETCH_WITHIN
            try:
                while process.poll() is None and time.monotonic() < deadline:
                    if abort.wait(_POLL):
                        raise _aborted()
            finally:
                process.kill()
        log.seek(0)
        return log.read().decode(errors="replace")


def _ivy_jar() -> Path:
    import pyspark  # only when needed: the import takes half a second

    folder = Path(pyspark.__file__).parent / "jars"
    found = sorted(folder.glob("ivy-*.jar"))
    if not found:
        raise ConfigurationError(f"no ivy-*.jar in {folder}: install pyspark from PyPI")
    return found[-1]


def some_of(files: list[str]) -> str:
    """Name the first few files and tell how many more there are."""
    more = len(files) - _NAMED
    return ", ".join(files[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _reason(output: str) -> str:
    """Pick from Ivy's report the line that says most."""
    lines = [line.strip(" \t:") for line in output.splitlines() if line.strip(" \t:")]
    telling = [
        line
        for line in lines
        if any(word in line for word in ("Exception", "not found", "error", "timed out"))
    ]
    return (telling or lines or ["Ivy said nothing"])[0][:300]


def _aborted() -> EngineUnavailable:
    return EngineUnavailable("Spark is being stopped")
