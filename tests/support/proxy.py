"""A proxy before Redis that a test may cut like a network."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType


class Proxy:
    """Forwards connections to a Unix socket until it is cut, and again when it is healed."""

    def __init__(self, target: Path) -> None:
        self._target = target
        # Not pytest's tmp_path: a socket's path must be shorter than 108 bytes.
        self._folder = tempfile.TemporaryDirectory(prefix="dq-", dir="/tmp")
        self._path = Path(self._folder.name) / "s"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self._path))
        self._server.listen(128)
        self._lock = threading.Lock()
        self._cut = False
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def url(self) -> str:
        return f"unix://{self._path}"

    def cut(self) -> None:
        """End all connections, in the middle of whatever they carry, and every new one."""
        with self._lock:
            self._cut = True
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        with self._lock:
            self._cut = False

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the server socket is closed
            while True:
                self._join(self._server.accept()[0])

    def _join(self, inner: socket.socket) -> None:
        outer = socket.socket(socket.AF_UNIX)
        try:
            with self._lock:
                if self._cut:
                    raise ConnectionError
                outer.connect(str(self._target))
                self._open |= {inner, outer}
        except OSError:
            inner.close()
            outer.close()
            return
        for source, sink in ((inner, outer), (outer, inner)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with self._lock:
            self._open.discard(source)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cut()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._folder.cleanup()
