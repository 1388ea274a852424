"""What a worker runs: Celery app, warm Spark, committer, engines."""
