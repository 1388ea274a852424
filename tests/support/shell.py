"""The command line as a shell runs it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deltaq.tasks.settings import Settings
from tests.support.places import variables_of
from tests.support.programs import environment


class Forks:
    """Commands without the start of Python and its imports, one at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self, **command: Any) -> Iterator[Callable[[float], int]]:
        """Have a command run; what is given waits so many seconds for its exit code."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forked_cli"],
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        process = self._process
        assert process.stdin is not None
        process.stdin.write(json.dumps(command).encode() + b"\n")
        ended = False

        def exit_code(within: float) -> int:
            nonlocal ended
            assert process.stdout is not None
            ended = bool(select.select([process.stdout], [], [], within)[0])
            assert ended, f"not within {within} s: {command['arguments']}"
            return int(process.stdout.readline())

        try:
            yield exit_code
        finally:
            if not ended:
                self.close()

    def close(self) -> None:
        """End the command, if one runs, and what it was forked from."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            with self._process:
                self._process = None


class Shell:
    """Runs ``deltaq`` with the settings of a test, and meanwhile what a worker would do."""

    def __init__(self, settings: Settings, folder: Path, forks: Forks) -> None:
        self.folder = folder
        self._forks = forks
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("DELTAQ_")},
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            **variables_of(settings.lake),
            "DELTAQ_LAKE": str(settings.lake),
            "DELTAQ_REDIS_URL": settings.redis_url.get_secret_value(),
            "DELTAQ_REDIS_TIMEOUT": "1",
            "COLUMNS": "200",
        }

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``deltaq`` with pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "deltaq.client.cli", *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(
        self, *arguments: str, worker: Callable[[], object] | None = None, stdin: bytes = b""
    ) -> tuple[int, bytes, str]:
        """Return exit code, stdout and stderr."""
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
            for file, content in zip(files, (stdin, b"", b""), strict=True):
                file.write_bytes(content)
            with self._forks.running(
                arguments=arguments,
                folder=str(self.folder),
                env=self.env,
                streams=[str(file) for file in files],
            ) as exit_code:
                if worker is not None:
                    worker()
                return exit_code(30), files[1].read_bytes(), files[2].read_text()
