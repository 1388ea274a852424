"""Answers queries. A query may come twice, and changes nothing but its own result."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.tasks.error_info import info_from_error
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.query import (
    Analyze,
    Commits,
    Detail,
    Exists,
    History,
    ListTables,
    Query,
    Read,
    Scan,
    Sql,
    decode_query,
    query_name,
)
from deltaq.tasks.results import publish
from deltaq.tasks.signing import Signer
from deltaq.tasks.staging import StagingArea
from deltaq.worker.commits import commits_after
from deltaq.worker.lake import Lake
from deltaq.worker.observers import NOBODY, Observer
from deltaq.worker.router import Router
from deltaq.worker.scans import Scans
from deltaq.worker.waiting_room import WaitingRoom

logger = logging.getLogger(__name__)


#: Seconds for which the answer to a follower of commits is kept: it asks again all the time.
_KEEP_COMMITS = 60.0


class Reader:
    """Answers the queries of clients.

    Args:
        router: Has an engine read tables.
        lake: Where the tables are.
        staging: Where results go.
        inbox: Where answers go.
        ask: Sends a query to the workers, this one included.
        signer: Checks who sent a query; None answers to anybody.
        keep: How long an answer is kept, seconds.
        observers: Told of each answer.
    """

    def __init__(
        self,
        *,
        router: Router,
        lake: Lake,
        staging: StagingArea,
        inbox: Inbox,
        ask: Callable[[str], None],
        signer: Signer | None = None,
        keep: float,
        observers: Observer = NOBODY,
    ) -> None:
        self._router = router
        self._lake = lake
        self._staging = staging
        self._inbox = inbox
        self._signer = signer
        self._keep = keep
        self._observers = observers
        self._room = WaitingRoom(lake, ask=ask, refuse=self._settle)
        self._scans = Scans(router=router, staging=staging, patience=keep, settle=self._settle)

    def answer(self, wire: str, signature: str | None = None) -> None:
        """Answer a query and tell its client, unless it has been answered.

        A scan is only begun, and a query that waits for a version is answered later.

        Args:
            wire: The query.
            signature: Of its sender, where this worker asks for one.

        Raises:
            InvalidRequest: It is no query; nobody can be told.
        """
        query = decode_query(wire)
        (known,) = self._inbox.outcomes([(query.table, query.request_id)])
        if isinstance(known, Outcome):
            return  # sent again because the answer took long
        began = time.monotonic()
        try:
            if self._signer is not None:
                self._signer.check_query(wire, signature)
            if self._room.holds(query):
                return
            if isinstance(query, Scan):
                if not self._lake.exists(query.table):
                    raise self._lake.missing(query.table)
                self._scans.begin(query)
                return
            facts = self._perform(query)
        except DeltaqError as exc:
            self._settle(query, exc)
        else:
            seconds = round(time.monotonic() - began, 6)
            self._settle(query, {"commit_seconds": seconds, **facts})

    def close(self) -> None:
        """End what goes on beside the tasks: scans, and queries that wait."""
        self._room.close()
        self._scans.close()

    def _settle(self, query: Query, told: dict[str, Any] | DeltaqError) -> None:
        if isinstance(told, DeltaqError):
            logger.info(
                "%s %s of table %s failed: %s",
                query_name(query),
                query.request_id,
                query.table,
                told,
                extra={
                    "action": "failed",
                    "request_id": query.request_id,
                    "table": query.table,
                    "operation": query_name(query),
                    "error": told.code,
                },
            )
            told = {"state": State.FAILED, "error": info_from_error(told)}
        outcome = Outcome(
            request_id=query.request_id,
            table=query.table,
            operation=query_name(query),
            **{"state": State.COMMITTED, **told},
        )
        keep = min(self._keep, _KEEP_COMMITS) if isinstance(query, Commits) else self._keep
        self._inbox.settle(query.client_id, outcome, keep=keep)
        self._observers.answered(query, outcome)

    def _perform(self, query: Query) -> dict[str, Any]:
        match query:
            case ListTables():
                return {"value": self._lake.tables()}
            case Commits():
                return {"value": self._commits(query)}
            case Sql():
                return self._sql(query)
            case Exists():
                return {"value": self._lake.exists(query.table)}
            case _ if not self._lake.exists(query.table):
                raise self._lake.missing(query.table)
            case Detail():
                detail, engine = self._router.detail(query.table)
                return {"value": detail, "engine": engine}
            case Analyze():
                told, engine = self._router.analyze(query.table)
                return {"value": told, "engine": engine}
            case History():
                history, engine = self._router.history(query.table, query.limit)
                return {"rows": self._keep_table(query, history), "engine": engine}
            case Read():
                return self._read(query)

    def _commits(self, query: Commits) -> dict[str, Any]:
        return {
            table: commits_after(self._lake.path(table), table, place)
            for table, place in query.places.items()
        }

    def _read(self, query: Read) -> dict[str, Any]:
        with self._result(query) as result:
            version, rows, engine = self._router.read(query, result)
        return {"version": version, "rows": rows, "engine": engine}

    def _sql(self, query: Sql) -> dict[str, Any]:
        with self._result(query) as result:
            rows, engine = self._router.sql(query, result)
        return {"rows": rows, "engine": engine}

    @contextlib.contextmanager
    def _result(self, query: Query) -> Iterator[Path]:
        """Lend a folder that becomes the result of a query when the block ends.

        It is another one until then: the same query may run in two threads when it was sent
        again.
        """
        result = self._staging.new_work_path()
        try:
            yield result
            publish(result, self._staging.read_path(query.request_id))
        finally:
            self._staging.remove_folder(result)

    def _keep_table(self, query: Query, table: pa.Table) -> int:
        with self._result(query) as result:
            result.mkdir(parents=True)
            pq.write_table(table, result / "part-0.parquet")
        return int(table.num_rows)
