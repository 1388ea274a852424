"""A coalesced group of merges gives the table that its merges give one after another."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltaq.client.results import rows_in
from deltaq.tasks.errors import DuplicateKeys
from deltaq.tasks.location import Location
from deltaq.tasks.query import Read
from deltaq.tasks.request import Append, Lane, Merge, Request, new_request_id
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.groups import CommitGroup, Waiting, plan_group
from deltaq.worker.lake import Lake
from tests.support.requests import CLIENT_ID, make_request, stage

Row = tuple[int | None, str | None, float | None]

_fresh = itertools.count()


class Twins:
    """One engine and two tables that are given the same requests in two ways."""

    def __init__(self, folder: Location) -> None:
        self.staging = StagingArea(folder / "staging")
        self.engine = NativeEngine(Lake(folder / "lake"), self.staging)
        number = next(_fresh)
        self.grouped, self.single = f"grouped_{number}", f"single_{number}"
        self.sequences = {self.grouped: 0, self.single: 0}

    def apply(self, table: str, requests: list[Request]) -> None:
        members = []
        for request in requests:
            self.sequences[table] += 1
            members.append(Waiting(sequence=self.sequences[table], request=request))
        app_id = "deltaq/epoch/live"
        self.engine.apply(
            CommitGroup(table=table, lane=Lane.LIVE, app_id=app_id, members=tuple(members))
        )

    def stage(self, table: str, kind: type[Request], rows: list[Row], **options: object) -> Request:
        request = make_request(kind, table, **options)
        return stage(self.staging, request, _frame(rows))

    def rows(self, table: str) -> list[Row]:
        query = Read(request_id=new_request_id(), client_id=CLIENT_ID, table=table)
        result = self.staging.new_work_path()
        self.engine.read(query, result)
        found = rows_in(result)
        assert found is not None
        return sorted(
            zip(*(found[c].to_pylist() for c in ("k1", "k2", "value")), strict=True), key=repr
        )


def _frame(rows: list[Row]) -> pa.Table:
    schema = pa.schema([("k1", pa.int64()), ("k2", pa.string()), ("value", pa.float64())])
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table([pa.array(c, t) for c, t in zip(columns, schema.types, strict=True)], schema)


keys = st.tuples(st.none() | st.integers(0, 3), st.none() | st.sampled_from("ab"))
values = st.none() | st.floats(-5, 5, width=16)


@st.composite
def frames(draw: st.DrawFn) -> list[Row]:
    """Draw rows in which no key comes twice, except with a null in it."""
    drawn = draw(st.lists(st.tuples(keys, values), max_size=6))
    seen: set[tuple[int | None, str | None]] = set()
    rows: list[Row] = []
    for key, value in drawn:
        if None in key or key not in seen:
            seen.add(key)
            rows.append((*key, value))
    return rows


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    before=st.none() | frames(), merges=st.lists(frames(), min_size=2, max_size=5), data=st.data()
)
def test_a_coalesced_group_equals_its_merges_one_by_one(
    place: Location, before: list[Row] | None, merges: list[list[Row]], data: st.DataObject
) -> None:
    twins = Twins(place)
    # A merge that inserts nothing needs a table to be there.
    insert = before is None or data.draw(st.booleans(), label="insert")
    for table in (twins.grouped, twins.single):
        if before is not None:
            twins.apply(table, [twins.stage(table, Append, before)])
    options = {"keys": ("k1", "k2"), "insert": insert}

    requests = [twins.stage(twins.grouped, Merge, rows, **options) for rows in merges]
    waiting = [Waiting(sequence=n, request=r) for n, r in enumerate(requests)]
    assert len(plan_group(waiting, max_requests=500, max_bytes=10**6)) == len(merges)
    twins.apply(twins.grouped, requests)
    for rows in merges:
        twins.apply(twins.single, [twins.stage(twins.single, Merge, rows, **options)])

    assert twins.rows(twins.grouped) == twins.rows(twins.single)


def test_a_merge_with_a_key_twice_is_found_in_a_group(place: Location) -> None:
    twins = Twins(place)
    good: list[Row] = [(1, "a", 1.0), (2, "a", 1.0)]
    bad: list[Row] = [(3, "a", 1.0), (3, "a", 2.0)]
    requests = [
        twins.stage(twins.grouped, Merge, rows, keys=("k1", "k2")) for rows in (good, bad, good)
    ]

    with pytest.raises(DuplicateKeys):
        twins.apply(twins.grouped, requests)
