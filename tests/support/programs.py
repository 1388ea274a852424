"""Programs that users start, started by tests."""

from __future__ import annotations

import os
import sys


def environment(**variables: str) -> dict[str, str]:
    """Our environment without settings of deltaq, for a process that shall find the sources."""
    outer = {k: v for k, v in os.environ.items() if not k.startswith("DELTAQ_")}
    return {**outer, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **variables}
