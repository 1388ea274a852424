"""Scans by both engines: the same rows, in parts."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest

from deltaq.client.results import read_part
from deltaq.tasks.errors import InvalidExpression, VersionNotFound
from deltaq.tasks.location import Location
from deltaq.tasks.query import Scan
from deltaq.tasks.request import new_request_id
from deltaq.tasks.scan_folder import ScanFolder
from deltaq.worker import scans
from deltaq.worker.engines import spark as spark_engine
from deltaq.worker.scans import Parts
from deltaq.worker.warm import WarmSpark
from tests.support.applying import Applier
from tests.support.requests import CLIENT_ID
from tests.support.twins import Twins, canonical

pytestmark = pytest.mark.timeout(300)

ROWS = pa.table({"n": range(1000), "text": [f"{n % 7}" for n in range(1000)]})


def scan(table: Applier, **asked: object) -> tuple[int, Parts, pa.Table]:
    """Have a table's engine scan it, with nobody in the way."""
    query = Scan(request_id=new_request_id(), client_id=CLIENT_ID, table="prices", **asked)  # type: ignore[arg-type]
    folder = ScanFolder(table.staging.read_path(query.request_id))
    assert folder.claim()
    work = table.staging.new_work_path()
    parts = Parts(folder, work, patience=10, stopping=threading.Event())
    version = table.engine.scan(query, parts)
    files = [file for n in range(parts.count) if (file := folder.part(n))]
    rows = pa.concat_tables(map(read_part, files)).replace_schema_metadata(None)
    assert rows.num_rows == parts.rows
    return version, parts, rows


def test_both_engines_scan_alike_in_parts(
    place: Location, warm_spark: WarmSpark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "_PART_BYTES", 1)
    monkeypatch.setattr(spark_engine, "_ROWS_PER_PART", 200)
    twins = Twins(place, warm_spark)
    for start in (0, 500):
        twins.both(lambda t, start=start: t.append(ROWS.slice(start, 500)))  # type: ignore[misc]

    for asked in ({}, {"where": "n < 700 and text <> '3'"}, {"version": 0}, {"columns": ("text",)}):
        native, spark = (scan(table, **asked) for table in (twins.native, twins.spark))
        assert native[0] == spark[0]
        assert canonical(native[2]) == canonical(spark[2])
        assert native[2].schema == spark[2].schema
        assert native[1].count > 1 or asked
        assert spark[1].count > 1

    empty = [scan(table, where="n < 0") for table in (twins.native, twins.spark)]
    assert [(parts.count, rows.num_rows) for _, parts, rows in empty] == [(1, 0), (1, 0)]

    for table in (twins.native, twins.spark):
        with pytest.raises(InvalidExpression):
            scan(table, where="m < 0")
        with pytest.raises(VersionNotFound, match="the newest is 1"):
            scan(table, version=2)
