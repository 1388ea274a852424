"""A small HTTP server for the few pages of a worker that machines look at."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deltaq.tasks.errors import ConfigurationError

logger = logging.getLogger(__name__)

#: Pages that are made at once; who comes then waits to be let in.
_AT_ONCE = 8
#: Seconds that a client may take to ask, and to take its answer.
_PATIENCE = 5.0


@dataclass(frozen=True, kw_only=True)
class Page:
    """An answer."""

    body: bytes
    content_type: str
    status: int = 200


class PageServer:
    """Serves pages by their paths, each made when it is asked for.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 for any that is free.
        pages: What makes each page.

    Raises:
        ConfigurationError: Nobody can listen there.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Callable[[], Page]]) -> None:
        try:
            self._server = _Server((host, port), pages)
        except OSError as exc:
            raise ConfigurationError(
                f"metrics cannot be served on {host}:{port}: {exc.strerror or exc}; give each "
                "worker of a machine a metrics_port of its own, and an address of this machine "
                "as metrics_host"
            ) from exc
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="deltaq-pages", daemon=True
        )

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Callable[[], Page]]) -> None:
        self.pages = pages
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._room.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("connection of %s ended", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE
    server: _Server
    server_version, sys_version = "deltaq", ""

    def do_GET(self) -> None:
        make = self.server.pages.get(self.path.partition("?")[0])
        if make is None:
            found = ", ".join(sorted(self.server.pages))
            page = Page(body=f"there are {found}\n".encode(), content_type="text/plain", status=404)
        else:
            try:
                page = make()
            except Exception:
                logger.exception("page %s failed", self.path)
                page = Page(body=b"see the log\n", content_type="text/plain", status=500)
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("%s: %s", self.address_string(), format % args)
