"""Tables through the queue, one call at a time: submitted, then waited for."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pyarrow as pa

from deltaq.client.core import Core
from deltaq.client.frames import Frame
from deltaq.client.future import Future
from deltaq.client.room import Room
from deltaq.tasks.errors import QueueUnavailable, ResultTimeout
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.query import Exists, History, Read
from deltaq.tasks.request import FrameRequest, Request, new_request_id

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.tasks.settings import Settings


class Queued:
    """Has workers apply requests and answer queries, and waits for them.

    Args:
        settings: The settings; with ``spool``, what is written while Redis is down waits.
        timeout: Most seconds to wait for room in the queue, and then for what comes of a call.
    """

    def __init__(self, settings: Settings, *, timeout: float) -> None:
        self._core = Core(settings)
        self._timeout = timeout

    @property
    def client_id(self) -> str:
        """Whose channel is heard."""
        return self._core.client_id

    def write(self, draft: FrameRequest, frame: Frame, *, again: bool) -> Outcome:
        """Submit a frame's request and wait for it; the queue knows by its id what is ``again``."""
        return self._wait(self._core.write(draft, frame, self._room()))

    def order(self, draft: Request) -> Outcome:
        """Submit a request without rows and wait for it."""
        return self._wait(self._core.order(draft, self._room()))

    def read(self, query: Read) -> pa.Table:
        """Read rows of a table."""
        return self._core.answer(query, self._core.take_rows, timeout=self._timeout)

    def history(self, table: str, limit: int) -> pa.Table:
        """Read the newest commits of a table, newest first."""
        query = History(
            request_id=new_request_id(), client_id=self.client_id, table=table, limit=limit
        )
        return self._core.answer(query, self._core.take_rows, timeout=self._timeout)

    def exists(self, table: str) -> bool:
        """Tell whether there is a table of that name."""
        query = Exists(request_id=new_request_id(), client_id=self.client_id, table=table)
        answer = self._core.answer(
            query, lambda outcome: nullcontext(bool(outcome.value)), timeout=self._timeout
        )
        return bool(answer)

    def close(self) -> None:
        """End threads and connections."""
        self._core.close()

    def _room(self) -> Room:
        return Room(block=True, timeout=self._timeout)

    def _wait(self, future: Future[Outcome]) -> Outcome:
        try:
            return future.result(self._timeout)
        except ResultTimeout as exc:
            if future.place is not None:  # it is queued, and goes on
                raise
            raise self._still_held(future) from exc

    def _still_held(self, future: Future[Outcome]) -> QueueUnavailable:
        path = self._core.staging.request_path(future.table, future.request_id)
        return QueueUnavailable(
            f"Redis did not answer within {self._timeout:g} s; {future.operation} "
            f"{future.request_id} on table {future.table} is staged ({path}) and goes in when "
            "Redis is back, while this process lives; later 'deltaq recover --apply' submits it. "
            f"The same call with request_id={future.request_id!r} waits for it again, and does "
            "not apply it twice",
            request_id=future.request_id,
            table=future.table,
            details={"staged_file": str(path)},
        )
