"""A private redis-server: ours, so that a test may stop, kill, fill and restart it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import redis

from tests.support.waiting import wait_until


class RedisServer:
    """A redis-server on a Unix socket in a folder of its own."""

    def __init__(self, *, durable: bool = False) -> None:
        # Not pytest's tmp_path: a socket's path must be shorter than 108 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="dq-", dir="/tmp"))
        self.socket = self.folder / "s"
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("redis-server", "--port", "0", "--unixsocket", str(self.socket)),
                    *("--save", "", "--dir", str(self.folder)),
                    *("--appendonly", "yes" if self._durable else "no"),
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, within=10)

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.exceptions.RedisError:
                return False

    def pause(self) -> None:
        """Make it hang: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.socket.unlink(missing_ok=True)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder)
