"""A whole system in one block: private Redis and workers, for tests, notebooks and a first try.

The one module of the worker that knows the client, because it hands one out.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pydantic import SecretStr

from deltaq.client import Client
from deltaq.tasks.broker import make_celery
from deltaq.tasks.errors import EngineUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.java import find_java
from deltaq.worker.processes import Spawner
from deltaq.worker.redis_server import RedisServer

#: Seconds after SIGTERM before a worker is killed.
_GRACE = 60.0


class System:
    """A private Redis and worker processes. Made by :func:`embedded`.

    Args:
        lake: Folder of the tables.
        output: Where workers write; a file in the staging area by default.
        settings: Further settings, as arguments of ``load_settings``.
    """

    def __init__(self, lake: str, *, output: IO[bytes] | None, settings: dict[str, Any]) -> None:
        self._spawner = Spawner()
        self._output = output
        # Where the private Redis is depends on them; those of another, such as its certificates,
        # must not be held against it.
        given = load_settings(**{**settings, "lake": lake, "redis_url": "unix:///private"})
        root = _own_folder(given)
        self.redis = RedisServer(root / "redis", self._spawner)
        self.log = root / "workers.log"
        # The password is that of another Redis: ours has none.
        own = {
            "redis_url": SecretStr(self.redis.url),
            "redis_password": None,  # nosec B105
            "backfill_sources": given.backfill_sources or _anywhere(given.lake),
        }
        self.settings: Settings = given.model_copy(update=own)
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def env(self) -> dict[str, str]:
        """The DELTAQ_* variables that let another process use this system."""
        values = self.settings.model_dump(exclude_defaults=True)
        return {f"DELTAQ_{name.upper()}": _as_variable(value) for name, value in values.items()}

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that run."""
        return [w.pid for w in self.workers if w.poll() is None]

    def client(self, **arguments: Any) -> Client:
        """Make a client of this system; close it, or use it as a context manager."""
        return Client(self.settings, **arguments)

    def start_worker(self, *, module: str = "deltaq.worker") -> int:
        """Start a worker process and return its process id without waiting for it.

        Args:
            module: What to run in place of the ordinary entry.

        Raises:
            ConfigurationError: It needs Java and there is none that fits; said here, because
                nobody reads the log of a worker that never came.
        """
        if self.settings.spark == "on":
            find_java()
        with contextlib.ExitStack() as stack:
            output = self._output
            if output is None:
                self.log.parent.mkdir(parents=True, exist_ok=True)
                output = stack.enter_context(self.log.open("ab"))
            outer = {k: v for k, v in os.environ.items() if not k.startswith("DELTAQ_")}
            worker = self._spawner.spawn(
                [sys.executable, "-m", module, "worker"],
                # Whoever runs a system like this reads its log.
                env={**outer, "DELTAQ_LOG_FORMAT": "human", **self.env},
                output=output,
            )
        self.workers.append(worker)
        return worker.pid

    def wait_ready(self, timeout: float = 120.0) -> None:
        """Wait until every worker process answers.

        Raises:
            EngineUnavailable: One has ended, or the time is over; the log is named.
        """
        deadline = time.monotonic() + timeout
        with contextlib.closing(make_celery(self.settings)) as app:
            while True:
                wanted = len(self.worker_pids)
                answers = app.control.ping(timeout=0.5, limit=wanted) if wanted else []
                if wanted and len(answers) >= wanted:
                    return
                for worker in self.workers:
                    if worker.poll() not in (None, 0, -signal.SIGKILL):
                        raise EngineUnavailable(
                            f"a worker ended with exit code {worker.returncode}{self._last_words()}"
                        )
                if time.monotonic() > deadline:
                    raise EngineUnavailable(
                        f"{len(answers)} of {len(self.workers)} workers are ready after "
                        f"{timeout:g} s{self._last_words()}"
                    )

    def _last_words(self) -> str:
        if self._output is not None:
            return ""
        lines = self.log.read_text(errors="replace").splitlines()
        return f": {lines[-1] if lines else 'it said nothing'}; see {self.log}"

    def stop(self) -> None:
        """End the workers, then Redis. What is queued stays for the next start."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.terminate()
        deadline = time.monotonic() + _GRACE
        for worker in self.workers:
            try:
                worker.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self.redis.stop()
        self._spawner.close()


@contextlib.contextmanager
def embedded(
    lake: str | Path, *, workers: int = 1, output: IO[bytes] | None = None, **settings: Any
) -> Iterator[System]:
    """Run a private Redis and workers for the length of a block.

    Submissions are possible at once; they are committed when the workers are warm. What is
    queued when the block ends is committed the next time a system runs on the same lake.

    Args:
        lake: Folder of the tables, or ``s3://bucket/folder``; made if it is not there.
        workers: How many worker processes to start.
        output: Where workers write; by default ``workers.log`` in the staging area.
        settings: Further settings, such as ``lease_ttl=2.0``.

    Raises:
        ConfigurationError: A setting is wrong, or redis-server or Java is missing.
    """
    system = System(str(lake), output=output, settings=settings)
    if isinstance(system.settings.lake, Path):
        system.settings.lake.mkdir(parents=True, exist_ok=True)
    try:
        system.redis.start()
        for _ in range(workers):
            system.start_worker()
        yield system
    finally:
        system.stop()


def _own_folder(settings: Settings) -> Path:
    """Name the folder of the private Redis: that of staged files, if they are on a disk."""
    staging = settings.staging_root
    return staging if isinstance(staging, Path) else Path(f"{StagingArea(staging).work}-system")


def _anywhere(lake: Location) -> tuple[Location, ...]:
    """Say from where workers load that run under the account of who starts them."""
    return (Path("/"), *([S3Path(lake.bucket, "")] if isinstance(lake, S3Path) else []))


def _as_variable(value: object) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case tuple():
            return ",".join(map(str, value))
        case dict():
            return json.dumps(value)
    return str(value)
