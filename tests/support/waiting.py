"""Waiting for a condition instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object], *, within: float = 10.0, saying: Callable[[], object] = str
) -> None:
    """Return once the condition holds; fail after ``within`` seconds with what ``saying`` says."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {condition!r} {saying()}")
        time.sleep(0.005)
