"""Applies requests without a queue, in the process that made them.

The same requests go through the same engine code as in a worker. What Redis does for workers is
done here by Delta alone: each request is a group of its own, whose sequence follows the ledger
that the table has, and of two processes that commit at once one loses and tries again. So every
request is in the table once, and between processes there is no order.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from deltaq.tasks.errors import CommitConflict, TransientError
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.query import Read
from deltaq.tasks.request import Request
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.groups import CommitGroup, Waiting
from deltaq.worker.lake import Lake
from deltaq.worker.ledger import LOCAL_EPOCH, app_id, find_committed
from deltaq.worker.outcomes import committed, read_back
from deltaq.worker.router import Performed, Router

#: Seconds for which a request is tried again after another process was first.
_PATIENCE = 30.0
#: Seconds, at most, between two tries.
_PAUSE = 0.1
#: Threads that write different tables at once; more would mostly wait for each other's GIL.
_LOCKS = 64


class LocalApplier:
    """Applies requests with the native engine. Every method may be called by any thread.

    Args:
        settings: Where lake and staging area are, and what native may do.
    """

    def __init__(self, settings: Settings) -> None:
        self._lake = Lake(settings.lake)
        native = NativeEngine(self._lake, StagingArea(settings.staging_root))
        # So that a refusal says which worker could do it.
        self._router = Router(
            native=native, spark=None, settings=settings.model_copy(update={"engine": "native"})
        )
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))

    def apply(self, request: Request, *, again: bool) -> Outcome:
        """Apply a staged request: one Delta commit, durable on return.

        Args:
            request: The request; its staged file is there.
            again: It may have been applied before, and then it is not.

        Raises:
            RequestError: Something is wrong with it; nothing was written.
            CommitConflict: Others were first each time.
            StorageUnavailable: The lake cannot be read or written now.
        """
        deadline = time.monotonic() + _PATIENCE
        attempt = 0
        # Threads of one process need not lose to each other.
        with self._locks[hash(request.table) % _LOCKS]:
            while True:
                attempt += 1
                began = time.time()
                group = self._group(request)
                # Looked for after the ledger was read: who commits later makes this one fail.
                if again and (found := self._committed(group)):
                    return found
                try:
                    performed = self._perform(group)
                except TransientError as exc:
                    if found := self._committed(group):
                        return found
                    if not isinstance(exc, CommitConflict) or time.monotonic() > deadline:
                        raise
                    time.sleep(random.uniform(0, _PAUSE))
                    continue
                (outcome,) = committed(group, performed, began=began, attempt=attempt)
                self._router.tidy(group, performed)
                return outcome

    def _perform(self, group: CommitGroup) -> Performed:
        performed = self._router.apply(group)
        while performed.commit.more is not None:
            performed = self._router.apply(replace(group, begun=performed.commit.more))
        return performed

    def read(self, query: Read, destination: Path) -> None:
        """Write the rows that a query asks for as Arrow files into a new folder.

        Raises:
            TableNotFound, VersionNotFound, InvalidExpression, SchemaMismatch: Of the query.
        """
        self._router.read(query, destination)

    def history(self, table: str, limit: int) -> pa.Table:
        """Read the newest commits, newest first, with Delta's columns of DESCRIBE HISTORY.

        Raises:
            TableNotFound: There is no such table.
        """
        return self._router.history(table, limit)[0]

    def exists(self, table: str) -> bool:
        """Tell whether a Delta table of that name is there."""
        return self._lake.exists(table)

    def _group(self, request: Request) -> CommitGroup:
        ledger = app_id(LOCAL_EPOCH, request.lane)
        reached = self._router.ledger(request.table, ledger)
        member = Waiting(sequence=max(reached, 0) + 1, request=request)
        return CommitGroup(
            table=request.table,
            lane=request.lane,
            app_id=ledger,
            members=(member,),
            after=reached,
        )

    def _committed(self, group: CommitGroup) -> Outcome | None:
        path, request_id = self._lake.path(group.table), group.first.request_id
        found = find_committed(path, None, [request_id])
        return read_back(group, found)[0] if found else None
