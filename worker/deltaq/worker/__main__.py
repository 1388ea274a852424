"""``python -m deltaq.worker``: the verbs of operators."""

from deltaq.worker.cli import app

app()
