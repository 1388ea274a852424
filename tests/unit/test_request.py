"""Requests, queries and outcomes on the wire; ids and names."""

from __future__ import annotations

import re
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaq.tasks.errors import InvalidRequest, InvalidTableName
from deltaq.tasks.names import check_request_id, check_table_name
from deltaq.tasks.outcome import Outcome, State, decode_outcomes, encode_outcomes
from deltaq.tasks.query import (
    Detail,
    Exists,
    History,
    ListTables,
    Query,
    Read,
    decode_query,
    encode_query,
    query_name,
)
from deltaq.tasks.request import (
    WIRE_VERSION,
    Append,
    Delete,
    Lane,
    Merge,
    Overwrite,
    Request,
    RequestIds,
    decode_request,
    encode_request,
    operation_of,
)

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
request_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", fullmatch=True)
client_ids = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
texts = st.text(min_size=1, max_size=30)
columns = st.lists(texts, min_size=1, max_size=3, unique=True).map(tuple)
engines = st.sampled_from([None, "native", "spark"])
numbers = st.integers(0, 2**53)

common = {
    "request_id": request_ids,
    "table": names,
    "lane": st.sampled_from(Lane),
    "client_id": client_ids,
    "submitted_at_ms": numbers,
    "digest": texts,
    "size_bytes": numbers,
    "engine": engines,
    "expires_ms": st.none() | numbers,
    "submitted_by": st.none() | texts,
}
with_rows = {**common, "rows": numbers, "shape": texts, "partition_by": st.none() | columns}
requests = st.one_of(
    st.builds(Append, **with_rows),
    st.builds(Overwrite, where=st.none() | texts, **with_rows),
    st.builds(
        Merge,
        keys=columns,
        update=st.none() | columns | st.just(()),
        insert=st.booleans(),
        delete_when=st.none() | texts,
        **with_rows,
    ),
    st.builds(Delete, where=texts, **common),
)
asked = {"request_id": request_ids, "client_id": client_ids, "table": names, "engine": engines}
queries = st.one_of(
    st.builds(
        Read,
        columns=st.none() | columns,
        where=st.none() | texts,
        version=st.none() | numbers,
        timestamp=st.none() | texts,
        limit=st.none() | numbers,
        **asked,
    ),
    st.builds(History, limit=numbers, **asked),
    st.builds(Detail, **asked),
    st.builds(Exists, **asked),
    st.builds(ListTables, request_id=request_ids, client_id=client_ids),
)

APPEND = Append(
    request_id="r1",
    table="prices",
    client_id="a" * 32,
    submitted_at_ms=1,
    digest="d",
    size_bytes=1,
    rows=1,
    shape="s",
)


@given(requests)
def test_a_request_comes_off_the_wire_as_it_went_on(request: Request) -> None:
    assert decode_request(encode_request(request)) == request


@given(queries)
def test_a_query_comes_off_the_wire_as_it_went_on(query: Query) -> None:
    assert decode_query(encode_query(query)) == query


def test_operations_and_queries_have_the_names_that_users_know() -> None:
    assert operation_of(APPEND) == "append"
    assert query_name(ListTables(request_id="r1", client_id="a" * 32)) == "tables"


def test_outcomes_come_off_the_wire_as_they_went_on() -> None:
    outcome = Outcome(
        request_id="r1", table="prices", operation="detail", state=State.COMMITTED, value={"a": 1}
    )
    assert decode_outcomes(encode_outcomes([outcome])) == [outcome]


def altered(**fields: object) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(encode_request(APPEND)), **fields})


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (altered(v=WIRE_VERSION + 1, new="field"), "upgrade the workers"),
        (altered(op="fly"), "fly"),
        (altered(surprise=1), "surprise"),
        (altered(rows="many"), "rows"),
        (altered(request_id="../x"), "request id"),
        (altered(client_id="x"), "client id"),
        (b"{}", "not a request"),
        (b"[", "not a request"),
        (b"\xff", "not a request"),
    ],
)
def test_what_is_no_request_is_refused(wire: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        decode_request(wire)


def test_a_request_or_query_for_a_table_outside_the_lake_is_refused() -> None:
    with pytest.raises(InvalidTableName):
        decode_request(altered(table="../x"))
    with pytest.raises(InvalidTableName):
        decode_query(encode_query(Exists(request_id="r", client_id="a" * 32, table="../x")))


def test_a_query_of_a_newer_version_is_refused() -> None:
    newer = Exists(v=WIRE_VERSION + 1, request_id="r1", client_id="a" * 32, table="prices")
    with pytest.raises(InvalidRequest, match="upgrade the workers"):
        decode_query(encode_query(newer))
    with pytest.raises(InvalidRequest, match="not a query"):
        decode_query("{}")


@pytest.mark.parametrize("name", ["a", "_a", "0", "a.b-c_d", "x" * 128])
def test_names_of_tables(name: str) -> None:
    assert check_table_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "-a", "a/b", "../a", "a\\b", "a b", "a\n", "\u00e9", "x" * 129]
)
def test_names_that_no_table_can_have(name: str) -> None:
    with pytest.raises(InvalidTableName):
        check_table_name(name)


@pytest.mark.parametrize("request_id", ["", "_a", ".a", "a/b", "a\n", "x" * 129])
def test_ids_that_no_request_can_have(request_id: str) -> None:
    with pytest.raises(InvalidRequest):
        check_request_id(request_id)


def test_ids_are_uuids_of_version_7_in_the_order_in_which_they_were_made() -> None:
    ids = RequestIds()
    made = [ids.new() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert all(re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", i) for i in made)


def test_threads_never_get_the_same_id() -> None:
    ids, made = RequestIds(), list[str]()
    threads = [
        threading.Thread(target=lambda: made.extend([ids.new() for _ in range(1000)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4000
