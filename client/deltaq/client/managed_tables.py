"""What the methods of DeltaLakeManager have in common."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import pyarrow as pa

from deltaq.client.drafts import LaneName
from deltaq.client.frames import Frame
from deltaq.client.requests import Common
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.query import Read
from deltaq.tasks.request import FrameRequest, Request

#: That of the class, whichever module it is that logs.
logger = logging.getLogger("deltaq.client.manager")


class Tables(Protocol):
    """What applies requests: the queue, or this process."""

    @property
    def client_id(self) -> str:
        """Whose channel is heard."""
        ...

    def write(self, draft: FrameRequest, frame: Frame, *, again: bool) -> Outcome:
        """Apply a frame's request; with ``again`` unless that was done before."""
        ...

    def order(self, draft: Request) -> Outcome:
        """Apply a request without rows."""
        ...

    def read(self, query: Read) -> pa.Table:
        """Read rows of a table."""
        ...

    def history(self, table: str, limit: int) -> pa.Table:
        """Read the newest commits of a table, newest first."""
        ...

    def exists(self, table: str) -> bool:
        """Tell whether there is a table of that name."""
        ...

    def close(self) -> None:
        """End threads and connections."""
        ...


def common_of(
    tables: Tables, table: str, request_id: str | None, lane: LaneName = "live"
) -> Common:
    """List what every request has."""
    return {
        "client_id": tables.client_id,
        "table": table,
        "request_id": request_id,
        "lane": lane,
        "engine": None,
        "expires": None,
    }


@contextmanager
def failures_logged(what: str, table: str) -> Iterator[None]:
    """Log an error with the table's name, and raise it."""
    try:
        yield
    except Exception as exc:
        logger.error("table %s: %s failed: %s", table, what, exc)
        raise
