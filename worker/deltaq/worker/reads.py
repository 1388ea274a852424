"""Answers queries. A query may come twice, and changes nothing but its own result."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.tasks.errors import DeltaqError, info_from_error
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.query import (
    Detail,
    Exists,
    History,
    ListTables,
    Query,
    Read,
    decode_query,
    query_name,
)
from deltaq.tasks.staging import StagingArea
from deltaq.worker.lake import Lake
from deltaq.worker.router import Router

logger = logging.getLogger(__name__)


class Reader:
    """Answers the queries of clients.

    Args:
        router: Has an engine read tables.
        lake: Where the tables are.
        staging: Where results go.
        inbox: Where answers go.
        keep: How long an answer is kept, seconds.
    """

    def __init__(
        self, *, router: Router, lake: Lake, staging: StagingArea, inbox: Inbox, keep: float
    ) -> None:
        self._router = router
        self._lake = lake
        self._staging = staging
        self._inbox = inbox
        self._keep = keep

    def answer(self, wire: str) -> None:
        """Answer a query and tell its client, unless it has been answered.

        Raises:
            InvalidRequest: It is no query; nobody can be told.
        """
        query = decode_query(wire)
        (known,) = self._inbox.outcomes([(query.table, query.request_id)])
        if isinstance(known, Outcome):
            return  # sent again because the answer took long
        began = time.monotonic()
        try:
            facts = self._perform(query)
        except DeltaqError as exc:
            logger.info("%s of table %s failed: %s", query_name(query), query.table, exc)
            facts = {"state": State.FAILED, "error": info_from_error(exc)}
        outcome = Outcome(
            request_id=query.request_id,
            table=query.table,
            operation=query_name(query),
            commit_seconds=round(time.monotonic() - began, 6),
            **{"state": State.COMMITTED, **facts},
        )
        self._inbox.settle(query.client_id, outcome, keep=self._keep)

    def _perform(self, query: Query) -> dict[str, Any]:
        match query:
            case ListTables():
                return {"value": self._lake.tables()}
            case Exists():
                return {"value": self._lake.exists(query.table)}
            case _ if not self._lake.exists(query.table):
                raise self._lake.missing(query.table)
            case Detail():
                detail, engine = self._router.detail(query.table)
                return {"value": detail, "engine": engine}
            case History():
                history, engine = self._router.history(query.table, query.limit)
                return {"rows": self._keep_table(query, history), "engine": engine}
            case Read():
                return self._read(query)

    def _read(self, query: Read) -> dict[str, Any]:
        # A folder of its own: the same query may run in two threads when it was sent again.
        result = self._staging.new_work_path()
        try:
            version, rows, engine = self._router.read(query, result)
            self._staging.publish(result, self._staging.read_path(query.request_id))
        finally:
            self._staging.remove(result)
        return {"version": version, "rows": rows, "engine": engine}

    def _keep_table(self, query: Query, table: pa.Table) -> int:
        path = self._staging.read_path(query.request_id) / "part-0.parquet"
        with contextlib.suppress(FileExistsError), self._staging.create(path) as file:
            pq.write_table(table, file)
        return int(table.num_rows)
