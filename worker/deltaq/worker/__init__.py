"""What a worker runs: Celery app, warm Spark, committer, engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deltaq.worker.system import System, embedded

__all__ = ["System", "embedded"]


def __getattr__(name: str) -> Any:
    # Late, so that a worker process never imports the client.
    if name in __all__:
        from deltaq.worker import system

        return getattr(system, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
