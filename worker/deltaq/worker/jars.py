"""Delta's JARs: fetched once with Ivy, which pyspark brings along, and kept.

A machine that has them starts without a network.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from deltaq.tasks.errors import ConfigurationError, EngineUnavailable
from deltaq.tasks.settings import Settings

#: SHA-256 of each file that jars.xml names.
PINNED = {
    "delta-spark_4.2_2.13-4.4.0.jar": (
        "27d4fd8b1f879535c573ed1c718177d6a27f24d3e626ba02e216369725721ead"
    ),
    "delta-storage-4.4.0.jar": "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc",
    "delta-kernel-api-4.4.0.jar": (
        "ee9b5a14ac3b7efdff4d61a58478fe8eb0e5a3fbca43889dca7290795fe79a11"
    ),
    "delta-kernel-defaults-4.4.0.jar": (
        "225c975199e4718b38ee5b7e6da7f19e9585024262b2cec2656b32151a856b0b"
    ),
    "delta-kernel-unitycatalog-4.4.0.jar": (
        "cea22dfb4ac562b3cd27bf652697750e8336009d73fb06631363aaaad5345ffa"
    ),
}
#: Seconds for 13 MB; a repository that does not answer is given up after this.
_FETCH_WITHIN = 300.0
#: Seconds between looks at a running fetch and at the lock.
_POLL = 0.05


def provide_jars(settings: Settings, java: Path, abort: threading.Event) -> list[Path]:
    """Return Delta's JARs, verified; fetch those that are not in ``settings.jars``.

    Workers that start at the same moment fetch once.

    Args:
        settings: Says where they are kept and which repository to ask.
        java: The executable that runs Ivy.
        abort: When set, a fetch ends at once.

    Raises:
        ConfigurationError: They cannot be had; the message says what to do.
        EngineUnavailable: ``abort`` was set.
    """
    folder = settings.jars
    try:
        if missing_jars(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with _lock(folder / ".lock", abort):
                if missing_jars(folder):
                    _fetch(settings, java, abort)
    except OSError as exc:
        raise ConfigurationError(
            f"jars: {folder} cannot be used: {exc.strerror}; set 'jars' to another folder, or "
            f"put there: {', '.join(PINNED)}"
        ) from exc
    return [folder / name for name in PINNED]


def missing_jars(folder: Path) -> list[str]:
    """List the names of JARs that are not in a folder as pinned."""
    return [name for name, digest in PINNED.items() if _sha256(folder / name) != digest]


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


def _fetch(settings: Settings, java: Path, abort: threading.Event) -> None:
    with tempfile.TemporaryDirectory(dir=settings.jars, prefix=".fetch-") as name:
        fetched = Path(name)
        output = _run_ivy(settings, java, fetched, abort)
        wrong = missing_jars(fetched)
        if wrong:
            raise ConfigurationError(
                f"Delta's JARs could not be fetched ({', '.join(wrong)} missing or not as "
                f"pinned): {_reason(output)}. Check the network, name a reachable Maven "
                f"repository with 'ivy_settings', or put the JARs into {settings.jars}"
            )
        for jar in PINNED:
            (fetched / jar).replace(settings.jars / jar)


def _run_ivy(settings: Settings, java: Path, fetched: Path, abort: threading.Event) -> str:
    """Run Ivy and return what it said; whether it brought the JARs is for the caller to see."""
    source = resources.files("deltaq.worker") / "jars.xml"
    with resources.as_file(source) as jars_xml, (fetched / "ivy.log").open("w+b") as log:
        command: list[str | Path] = [java, "-jar", _ivy_jar(), "-cache", fetched / "ivy"]
        if settings.ivy_settings:
            command += ["-settings", settings.ivy_settings]
        command += ["-ivy", jars_xml, "-types", "jar"]
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
