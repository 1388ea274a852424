"""Waiting for a condition instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], object],
    *,
    within: float = 10.0,
    saying: Callable[[], object] = str,
    every: float = 0.005,
) -> None:
    """Return once the condition holds; fail after ``within`` seconds with what ``saying`` says.

    It is looked at again after ``every`` seconds: a look that asks a server takes time from it.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {condition!r} {saying()}")
        time.sleep(every)
