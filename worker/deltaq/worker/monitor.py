"""All that tells others how a worker is: signs of life in Redis, pages for probes and Prometheus."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

from deltaq.tasks.settings import Settings
from deltaq.worker.health import Health, Heartbeat
from deltaq.worker.observers import Observer
from deltaq.worker.pages import Page, PageServer
from deltaq.worker.warm import WarmSpark

logger = logging.getLogger(__name__)


class Monitor:
    """Tells how one worker is. Without ``metrics_port`` only Redis is told.

    Args:
        settings: The settings.
        name: Of the worker.
        warm: Its Spark, if it has one.
        stopping: Set when the worker shall end.
        left_out: Tells of how many tasks Flower was not told all.

    Raises:
        ConfigurationError: The pages cannot be served where the settings say.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str,
        warm: WarmSpark | None,
        stopping: threading.Event,
        left_out: Callable[[], int],
    ) -> None:
        self.health = Health(settings, name=name, warm=warm, stopping=stopping)
        self.heartbeat = Heartbeat(settings, self.health)
        self._closed = False
        self._metrics = (
            None if settings.metrics_port is None else _Exposition(settings, self, left_out)
        )

    @property
    def observers(self) -> list[Observer]:
        """Who wants to be told of the work."""
        metrics = [] if self._metrics is None else [self._metrics.observer]
        return [self.health.work, *metrics]

    def start(self) -> None:
        """Begin to look and to tell."""
        self.health.disks.start()
        self.heartbeat.start()
        if self._metrics is not None:
            self._metrics.server.start()

    def close(self) -> None:
        """Say goodbye and end. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._metrics is not None:
            self._metrics.close()
        self.heartbeat.close()
        self.health.disks.close()

    def readiness(self) -> dict[str, Any]:
        """Say whether the worker is ready, why not, and which workers there are."""
        problems = self.health.problems()
        workers = self.heartbeat.workers
        return {
            "ready": not problems,
            "problems": problems,
            "engines": self.health.engines,
            "workers": {
                "alive": [w.facts.name for w in workers if not w.is_lost],
                "lost": [w.facts.name for w in workers if w.is_lost],
            },
        }


class _Exposition:
    """The pages, and what is behind them."""

    def __init__(self, settings: Settings, monitor: Monitor, left_out: Callable[[], int]) -> None:
        # Who runs without them does not wait for the import.
        from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        from deltaq.worker.gauges import QueueGauges, WorkerGauges
        from deltaq.worker.metrics import Metrics

        # One more series for each counter, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it publishes no types
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.observer = Metrics(registry, tables=settings.metrics_tables)
        self._queue = QueueGauges(
            settings, tables=settings.metrics_tables, cancelled=self.observer.cancelled
        )
        registry.register(self._queue)
        registry.register(
            WorkerGauges(settings, monitor.health, monitor.heartbeat, left_out=left_out)
        )

        def metrics() -> Page:
            return Page(body=generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

        def healthz() -> Page:
            return _as_json({"live": True})

        def readyz() -> Page:
            told = monitor.readiness()
            return _as_json(told, status=200 if told["ready"] else 503)

        self.server = PageServer(
            settings.metrics_host,
            settings.metrics_port or 0,
            {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz},
        )
        logger.info("metrics on http://%s:%d/metrics", settings.metrics_host, self.server.port)

    def close(self) -> None:
        self.server.close()
        self._queue.close()


def _as_json(told: dict[str, Any], *, status: int = 200) -> Page:
    body = json.dumps(told, indent=1).encode() + b"\n"
    return Page(body=body, content_type="application/json", status=status)
