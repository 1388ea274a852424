"""A worker process that traces sends its spans where the OTEL_* variables say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest

from deltaq.worker import embedded
from tests.support.waiting import wait_until


class Collector(ThreadingHTTPServer):
    """Takes what exporters send."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.timeout(120)
def test_a_worker_sends_a_span_of_each_commit(
    lake: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = collector.server_address[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    with embedded(lake, spark="off", tracing=True) as system:
        with system.client(tracing=False) as client:
            client.append("prices", pa.table({"n": [1]})).result(60)
        system.stop()  # what is not sent yet is sent now
        wait_until(lambda: b"commit append prices" in b"".join(collector.bodies), within=20)
    assert b"deltaq-worker" in b"".join(collector.bodies)
