"""Single keys from a terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def keyboard() -> Iterator[Callable[[float], str]]:
    """Read keys as they are pressed, without echo; Ctrl-C stays an interrupt.

    What is yielded waits for so many seconds and returns the key, or '' when none was pressed or
    standard input is no terminal.
    """
    if not sys.stdin.isatty():
        yield _nothing
        return
    source = sys.stdin.fileno()
    before = termios.tcgetattr(source)
    tty.setcbreak(source)
    try:
        yield lambda seconds: _key(source, seconds)
    finally:
        termios.tcsetattr(source, termios.TCSADRAIN, before)


def _nothing(seconds: float) -> str:
    select.select([], [], [], max(0.0, seconds))
    return ""


def _key(source: int, seconds: float) -> str:
    ready, _, _ = select.select([source], [], [], max(0.0, seconds))
    # Of an arrow or a paste, the first counts; the rest must not be taken for commands.
    return os.read(source, 1024).decode(errors="replace")[:1] if ready else ""
