"""What callers' arguments become, and which of them cannot be meant."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from deltaq.client import requests as make
from deltaq.client.schemas import columns_of
from deltaq.tasks.errors import DeltaqError, InvalidFrame, InvalidRequest
from deltaq.tasks.request import (
    Append,
    Column,
    Merge,
    decode_request,
    encode_request,
    operation_of,
)

COMMON: dict[str, Any] = {
    "client_id": "c" * 32,
    "table": "prices",
    "request_id": None,
    "lane": "live",
    "engine": None,
    "expires": None,
}
SCD2: dict[str, Any] = {
    "keys": "k",
    "track": None,
    "valid_from": "valid_from",
    "valid_to": "valid_to",
    "is_current": "is_current",
    "partition_by": None,
}
CREATE: dict[str, Any] = {
    "schema": {"k": "int"},
    "partition_by": None,
    "properties": None,
    "comment": None,
}


def test_an_append_that_leaves_out_known_rows_is_a_merge_that_only_inserts() -> None:
    plain: Any = {"partition_by": None, "schema_mode": None, **COMMON}

    assert isinstance(make.append_request(dedupe_on=None, **plain), Append)
    merge = make.append_request(dedupe_on=["k", "day"], **plain)
    assert isinstance(merge, Merge)
    assert (merge.keys, merge.update, merge.insert) == (("k", "day"), (), True)


def test_every_verb_comes_back_from_the_wire() -> None:
    drafted: list[Any] = [
        make.merge_scd2_request(**SCD2, **COMMON),
        make.create_request(**{**CREATE, "comment": "all", "partition_by": ()}, **COMMON),
        make.restore_request(version=3, timestamp=None, **COMMON),
        make.restore_request(version=None, timestamp=datetime(2024, 5, 31), **COMMON),
        make.drop_request(confirm="prices", **COMMON),
        make.set_properties_request(properties={"a": True, "b": 1.5, "c": "x"}, **COMMON),
        make.add_column_request(name="n", kind=pa.int64(), comment="new", **COMMON),
        make.rename_column_request(column="a", to="b", **COMMON),
        make.optimize_request(zorder="k", **COMMON),
        make.vacuum_request(retention_hours=0, dry_run=True, force=True, **COMMON),
    ]

    for request in drafted:
        assert decode_request(encode_request(request)) == request
    assert [operation_of(request) for request in drafted] == [
        *("merge_scd2", "create", "restore", "restore", "drop", "set_properties"),
        *("add_column", "rename_column", "optimize", "vacuum"),
    ]
    assert drafted[3].timestamp == "2024-05-31T00:00:00+00:00"
    assert drafted[5].properties == {"a": "true", "b": "1.5", "c": "x"}


REFUSED: list[tuple[Callable[..., Any], dict[str, Any], type[DeltaqError], str]] = [
    (make.restore_request, {"version": None, "timestamp": None}, InvalidRequest, "either"),
    (make.restore_request, {"version": 1, "timestamp": "2024"}, InvalidRequest, "either"),
    (make.restore_request, {"version": -1, "timestamp": None}, InvalidRequest, "from 0"),
    (make.drop_request, {"confirm": "price"}, InvalidRequest, "confirm='prices', not 'price'"),
    (make.set_properties_request, {"properties": {}}, InvalidRequest, "nothing to set"),
    (make.set_properties_request, {"properties": {"a": None}}, InvalidRequest, "property 'a'"),
    (
        make.add_column_request,
        {"name": "n", "kind": "int not null", "comment": None},
        InvalidRequest,
        "null in the rows there are",
    ),
    (make.add_column_request, {"name": "", "kind": "int", "comment": None}, InvalidRequest, "''"),
    (make.add_column_request, {"name": "n", "kind": int, "comment": None}, InvalidRequest, "int"),
    (
        make.add_column_request,
        {"name": "n", "kind": pa.duration("s"), "comment": None},
        InvalidFrame,
        "no durations",
    ),
    (make.rename_column_request, {"column": "a", "to": "a"}, InvalidRequest, "has that name"),
    (make.optimize_request, {"zorder": ["k", "k"]}, InvalidRequest, "named twice"),
    (
        make.vacuum_request,
        {"retention_hours": 167, "dry_run": False, "force": False},
        InvalidRequest,
        "168 or more, or force=True",
    ),
    (
        make.vacuum_request,
        {"retention_hours": 1.5, "dry_run": False, "force": True},
        InvalidRequest,
        "whole number",
    ),
    (make.create_request, {**CREATE, "schema": ["k"]}, InvalidRequest, "a pyarrow.Schema or"),
    (make.create_request, {**CREATE, "schema": {}}, InvalidFrame, "no columns"),
    (make.create_request, {**CREATE, "schema": {"k": "int", "K": "int"}}, InvalidFrame, "case"),
    (make.create_request, {**CREATE, "partition_by": "x"}, InvalidRequest, "not in the schema"),
    (make.merge_scd2_request, {**SCD2, "track": "k"}, InvalidRequest, "track names key 'k'"),
    (make.merge_scd2_request, {**SCD2, "valid_to": "valid_from"}, InvalidRequest, "twice"),
    (make.merge_scd2_request, {**SCD2, "is_current": "k"}, InvalidRequest, "no key"),
    (
        make.append_request,
        {"partition_by": None, "dedupe_on": None, "schema_mode": "overwrite"},
        InvalidRequest,
        "'merge', or leave it out",
    ),
    (
        make.append_request,
        {"partition_by": None, "dedupe_on": [], "schema_mode": None},
        InvalidRequest,
        "dedupe_on names no column",
    ),
]


@pytest.mark.parametrize(
    ("function", "arguments", "error", "said"), REFUSED, ids=[said for *_, said in REFUSED]
)
def test_what_cannot_be_meant_is_refused(
    function: Callable[..., Any], arguments: dict[str, Any], error: type[DeltaqError], said: str
) -> None:
    with pytest.raises(error) as caught:
        partial(function, **COMMON)(**arguments)
    assert said in str(caught.value)


def test_a_schema_keeps_what_pyarrow_says_of_columns() -> None:
    inner = pa.struct([("a b", pa.list_(pa.int32())), ("m", pa.map_(pa.string(), pa.float32()))])
    schema = pa.schema(
        [
            pa.field("k", pa.uint32(), nullable=False, metadata={"comment": "key"}),
            pa.field("at", pa.timestamp("ns", "Europe/Berlin")),
            pa.field("d", pa.decimal128(12, 3)),
            pa.field("s", inner),
        ]
    )

    assert columns_of(schema) == (
        Column(name="k", type="bigint", nullable=False, comment="key"),
        Column(name="at", type="timestamp"),
        Column(name="d", type="decimal(12,3)"),
        Column(name="s", type="struct<`a b`:array<int>,`m`:map<string,float>>"),
    )
    assert columns_of({"k": "STRING  NOT NULL ", "v": pa.date32()}) == (
        Column(name="k", type="STRING", nullable=False),
        Column(name="v", type="date"),
    )
