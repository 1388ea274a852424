"""What ``deltaq doctor`` looks at: this machine, the storage, Redis, the workers, the queue."""

from __future__ import annotations

from collections.abc import Iterator

from deltaq.tasks.settings import Settings
from deltaq.worker.doctor.finding import Finding, Level
from deltaq.worker.doctor.machine import check_machine
from deltaq.worker.doctor.service import check_service
from deltaq.worker.doctor.storage import check_storage

__all__ = ["Finding", "Level", "examine"]


def examine(settings: Settings) -> Iterator[Finding]:
    """Check everything, and tell each finding as soon as it is there. Nothing is changed."""
    yield from check_machine(settings)
    yield from check_storage(settings)
    yield from check_service(settings)
