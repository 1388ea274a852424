"""A worker that stops in the middle: ``python -m tests.support.faulty_worker worker``."""

from __future__ import annotations

import os

from deltaq.worker.cli import app
from tests.support.faulty import Saboteur
from tests.support.steps import COMMIT_STEPS, install

if __name__ == "__main__":
    if through := os.environ.get("FAULT_REDIS_URL"):
        os.environ["DELTAQ_REDIS_URL"] = through
    install(COMMIT_STEPS, Saboteur.from_environment().reached)
    app()
