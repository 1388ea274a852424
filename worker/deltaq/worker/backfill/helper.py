"""The worker's end of the process that prepares parts."""

from __future__ import annotations

import select
import subprocess
import sys

import msgspec

from deltaq.worker.backfill.child import Answer
from deltaq.worker.backfill.preparing import Job
from deltaq.worker.processes import Spawner


class HelperDied(Exception):
    """The process ended in the middle of a job; the message says how."""


class Helper:
    """One process, started when there is a job. Used by one thread."""

    def __init__(self) -> None:
        self._spawner = Spawner()
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, job: Job) -> None:
        """Have a part prepared; ask :meth:`answer` what came of it.

        Raises:
            HelperDied: The process cannot take it.
        """
        if self._process is None:
            self._process = self._spawner.spawn(
                [sys.executable, "-m", "deltaq.worker.backfill.child"], pipes=True
            )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(job) + b"\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise self._died() from exc

    def answer(self, timeout: float) -> Answer | None:
        """Wait for what came of the job; None if it is not done within ``timeout`` seconds.

        Raises:
            HelperDied: It will not be done.
        """
        process = self._process
        assert process is not None
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], timeout)[0]:
            return None
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._died()
        return msgspec.json.decode(line, type=Answer)

    def stop(self) -> None:
        """End the process, whatever it does; the next job starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with process:
            process.wait()

    def close(self) -> None:
        """End the process for good."""
        self.stop()
        self._spawner.close()

    def _died(self) -> HelperDied:
        process = self._process
        assert process is not None
        self.stop()
        return HelperDied(f"the process that prepares parts ended with {process.returncode}")
