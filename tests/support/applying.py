"""Applies requests with an engine as a committer would, without queue and lease."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from deltaq.client.results import rows_in
from deltaq.tasks.location import Location
from deltaq.tasks.query import Read
from deltaq.tasks.request import Append, Delete, Lane, Merge, Overwrite, Request, new_request_id
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines import Commit, Engine
from deltaq.worker.groups import CommitGroup, Waiting
from deltaq.worker.lake import Lake
from deltaq.worker.ledger import app_id
from tests.support.requests import CLIENT_ID, make_request, stage

LEDGER = app_id("epoch", Lane.LIVE)


class Applier:
    """Stages requests on one table, gives them sequences from 0 up and applies them."""

    def __init__(self, engine: Engine, root: Location, table: str = "prices") -> None:
        self.engine = engine
        self.lake = Lake(root)
        self.staging = StagingArea(root / ".deltaq")
        self.table = table
        self.path = self.lake.path(table)
        self._next = 0

    def stage(self, kind: type[Request], rows: pa.Table | None = None, **fields: Any) -> Request:
        if rows is not None:
            fields["rows"] = rows.num_rows
        return stage(self.staging, make_request(kind, self.table, **fields), rows)

    def group(self, *requests: Request, first: int | None = None) -> CommitGroup:
        """Make a group of requests; ``first`` is its first sequence, the next one if not given."""
        start = self._next if first is None else first
        self._next = max(self._next, start + len(requests))
        members = tuple(
            Waiting(sequence=start + place, request=request)
            for place, request in enumerate(requests)
        )
        return CommitGroup(table=self.table, lane=Lane.LIVE, app_id=LEDGER, members=members)

    def apply(self, *requests: Request, first: int | None = None) -> Commit:
        return self.apply_group(self.group(*requests, first=first))

    def apply_group(self, group: CommitGroup) -> Commit:
        """Apply a group, slice by slice if it has several."""
        commit = self.engine.apply(group)
        while commit.more is not None:
            commit = self.engine.apply(replace(group, begun=commit.more))
        return commit

    def append(self, rows: pa.Table, **fields: Any) -> Commit:
        return self.apply(self.stage(Append, rows, **fields))

    def overwrite(self, rows: pa.Table, **fields: Any) -> Commit:
        return self.apply(self.stage(Overwrite, rows, **fields))

    def merge(self, rows: pa.Table, **fields: Any) -> Commit:
        return self.apply(self.stage(Merge, rows, **fields))

    def delete(self, where: str) -> Commit:
        return self.apply(self.stage(Delete, where=where))

    def ledger(self) -> int:
        return self.engine.ledger(self.table, LEDGER)

    def read(self, **query: Any) -> pa.Table:
        return self.read_version(**query)[1]

    def read_version(self, **query: Any) -> tuple[int, pa.Table]:
        request_id = new_request_id()
        folder = self.staging.new_work_path()
        asked = Read(request_id=request_id, client_id=CLIENT_ID, table=self.table, **query)
        version, count = self.engine.read(asked, folder)
        rows = rows_in(folder)
        self.staging.remove_folder(folder)
        assert rows is not None
        assert rows.num_rows == count
        return version, rows

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        """Read the table's rows, sorted by the given columns, as tuples of them."""
        found = self.read(columns=columns)
        return sorted(zip(*(found[c].to_pylist() for c in columns), strict=True))
