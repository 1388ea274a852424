"""``deltaq top`` on a real terminal, beside real workers."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pytest

from deltaq.tasks.workers import read_workers
from deltaq.worker import System, embedded
from tests.support.waiting import wait_until

#: The pledge: whoever watches hears of a dead worker within this, seconds.
TOLD_WITHIN = 10.0


class Terminal:
    """Runs ``deltaq`` on a terminal of 80 columns and 24 lines."""

    def __init__(self, system: System, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        unset = ("COLUMNS", "LINES", "NO_COLOR", "CI")
        rest = {k: v for k, v in os.environ.items() if k not in unset}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deltaq.client.cli", *arguments],
            env={**rest, **system.env, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = b""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        try:
            while got := os.read(self._ours, 1 << 16):
                self.shown += got
        except OSError:
            return  # so Linux tells that the other end was closed

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def await_text(self, pattern: bytes, *, within: float = 30.0) -> None:
        """Wait until something appears that was not there before."""
        start = len(self.shown)
        wait_until(
            lambda: re.search(pattern, self.shown[start:]),
            within=within,
            saying=lambda: self.shown[-4000:],
        )

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join()
        os.close(self._ours)


@contextmanager
def terminal(system: System, *arguments: str) -> Iterator[Terminal]:
    opened = Terminal(system, *arguments)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with embedded(tmp_path_factory.mktemp("top") / "lake", spark="off") as system:
        system.wait_ready()
        yield system


@pytest.mark.timeout(180)
def test_top_takes_keys_and_gives_the_terminal_back(system: System) -> None:
    with terminal(system, "top", "--interval", "0.2") as screen:
        screen.await_text(rb"by age; ")
        screen.type(b"d")
        screen.await_text(rb"by depth; ")
        screen.type(b"\x1b[A")  # an arrow, which is no command
        for _ in range(2):  # the first may have been on its way
            screen.await_text(rb"by depth; ")
        screen.type(b"r")
        screen.await_text(rb"by rate; ")
        screen.type(b"q")
        assert screen.process.wait(20) == 0
        wait_until(lambda: screen.shown.endswith(b"\x1b[?1049l"))


def test_a_worker_tells_how_many_commits_it_made(system: System) -> None:
    with system.client() as client, system.redis.connect() as connection:
        for number in range(2):
            client.append("prices", pa.table({"n": [number]})).result(30)
        wait_until(lambda: [w.facts.commits for w in read_workers(connection)] == [2])


@pytest.mark.timeout(180)
def test_a_killed_worker_is_told_within_ten_seconds(system: System) -> None:
    with (
        terminal(system, "top", "--interval", "0.2") as top,
        terminal(system, "status", "--watch", "--interval", "0.2") as status,
    ):
        for screen in (top, status):
            screen.await_text(rb"1 alive")
        (worker,) = system.workers
        worker.kill()
        killed = time.monotonic()
        top.await_text(rb"lost     1, ", within=60)
        assert time.monotonic() - killed < TOLD_WITHIN
        status.await_text(rb"lost     1, ", within=60)
