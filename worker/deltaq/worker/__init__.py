"""What a worker runs: Celery app, warm Spark, committer, engines."""

from deltaq.worker.system import System, embedded

__all__ = ["System", "embedded"]
