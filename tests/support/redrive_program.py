"""Redrives one dead letter and dies at a step: ``python -m ... STEP REQUEST_ID``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from deltaq.client import Client
from deltaq.client.listener import Listener
from deltaq.tasks import staging
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.staging import StagingArea

#: Where each step is: owner, function, and how many calls of it are made before the end.
STEPS: dict[str, tuple[Any, str, int]] = {
    "nothing done": (StagingArea, "exhume", 0),
    "moved": (staging, "sync_folder", 0),
    "reason removed": (staging, "sync_folder", 1),
    "staged": (Inbox, "submit", 0),
    "submitted": (Listener, "add", 0),
}


def _dies(function: Callable[..., Any], calls: int) -> Callable[..., Any]:
    left = [calls]

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return function(*args, **kwargs)

    return wrapper


if __name__ == "__main__":
    step, request_id = sys.argv[1:]
    owner, name, calls = STEPS[step]
    setattr(owner, name, _dies(getattr(owner, name), calls))
    Client().redrive([request_id])
