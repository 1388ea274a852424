"""A worker that reaches Redis by way of REDIS_PROXY: ``python -m tests.support.worker_by_proxy``."""

from __future__ import annotations

import os

from deltaq.worker.cli import app

if __name__ == "__main__":
    os.environ["DELTAQ_REDIS_URL"] = os.environ["REDIS_PROXY"]
    app()
