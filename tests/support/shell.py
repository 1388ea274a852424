"""The command line as a shell runs it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from deltaq.tasks.settings import Settings
from tests.support.places import variables_of


class Shell:
    """Runs ``deltaq`` with the settings of a test, and meanwhile what a worker would do."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
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
        with self.start(*arguments) as process:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(stdin)
                process.stdin.close()
            process.stdin = None
            if worker is not None:
                worker()
            out, err = process.communicate(timeout=30)
            return process.returncode, out, err.decode()
