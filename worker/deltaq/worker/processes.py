"""Child processes that end with us, however we end."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO

#: prctl(2) of Linux: the signal that a child gets when its parent ends.
_PR_SET_PDEATHSIG = 1


class Spawner:
    """Starts children that are sent SIGTERM when this process is gone.

    The kernel watches the thread that forked, not the process, so all children are started by
    one thread that lives as long as the spawner.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="deltaq-spawner")

    def spawn(
        self,
        command: list[str],
        *,
        env: Mapping[str, str] | None = None,
        output: IO[bytes] | None = None,
        pipes: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a process in a group of its own, so that Ctrl-C reaches only its parent.

        Args:
            command: Program and arguments.
            env: Its whole environment; ours by default.
            output: Where its standard output and error go; ours by default.
            pipes: Connect its standard input and output with the caller instead.
        """
        return self._thread.submit(
            subprocess.Popen,
            command,
            env=env,
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else output,
            stderr=subprocess.STDOUT if output is not None else None,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        ).result()

    def close(self) -> None:
        """Let the thread go; its children must have ended."""
        self._thread.shutdown()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
