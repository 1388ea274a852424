"""A worker as far as Redis sees one, played by the test itself."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.tasks import keys
from deltaq.tasks.connection import Scripts, connect
from deltaq.tasks.entries import Settled
from deltaq.tasks.error_info import info_from_error
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.query import Query, query_name
from deltaq.tasks.request import Lane, Request, decode_request, operation_of
from deltaq.tasks.results import publish
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea


class Player:
    """Takes requests out of inboxes and settles them; no table is touched."""

    def __init__(self, settings: Settings) -> None:
        self.client = connect(settings)
        self.inbox = Inbox(self.client, settings)
        self.staging = StagingArea(settings.staging_root)
        self._scripts = Scripts(self.client)

    def waiting(self, table: str, lane: Lane = Lane.LIVE) -> list[Request]:
        return [decode_request(e.wire) for e in self.inbox.peek(table, lane, count=100_000)]

    def lease(self, table: str) -> None:
        lease = [keys.lease(table), keys.seq(table), keys.wake(table)]
        self._scripts.run("take", lease, ["player", 60_000, "test"])

    def claim_all(self, table: str) -> None:
        self.lease(table)
        sequences = [e.sequence for e in self.inbox.peek(table, Lane.LIVE, count=1000)]
        self.inbox.claim(table, Lane.LIVE, sequences, token="player")

    def commit_all(
        self,
        table: str,
        lane: Lane = Lane.LIVE,
        *,
        error: DeltaqError | None = None,
        count: int = 100_000,
    ) -> None:
        """Settle what waits, as committed in version 7 or as failed, and remove the files."""
        self.lease(table)
        entries = self.inbox.peek(table, lane, count=count)
        requests = [decode_request(e.wire) for e in entries]
        settled = [
            Settled(
                outcome=_outcome(request, error),
                client_id=request.client_id,
                size_bytes=request.size_bytes,
            )
            for request in requests
        ]
        self.inbox.acknowledge(table, lane, settled, upto=entries[-1].sequence, token="player")
        for request in requests:
            self.staging.remove(self.staging.request_path(table, request.request_id))

    def answer(self, query: Query, *, rows: pa.Table | None = None, **facts: Any) -> None:
        """Answer a query, with rows in a staged file if there are some."""
        if rows is not None:
            made = self.staging.new_work_path()
            made.mkdir()
            pq.write_table(rows, made / "part-0.parquet")
            publish(made, self.staging.read_path(query.request_id))
        outcome = Outcome(
            request_id=query.request_id,
            table=query.table,
            operation=query_name(query),
            state=State.COMMITTED,
            **facts,
        )
        self.inbox.settle(query.client_id, outcome, keep=60.0)

    def close(self) -> None:
        self.client.close()


def _outcome(request: Request, error: DeltaqError | None) -> Outcome:
    return Outcome(
        request_id=request.request_id,
        table=request.table,
        operation=operation_of(request),
        state=State.FAILED if error else State.COMMITTED,
        version=None if error else 7,
        error=info_from_error(error) if error else None,
    )
