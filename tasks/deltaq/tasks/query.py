"""What a client asks of a table without changing it.

A query is an ordinary Celery task: it may run twice or on any worker, at any time.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from deltaq.tasks.errors import InvalidRequest
from deltaq.tasks.names import check_client_id, check_request_id, check_table_name
from deltaq.tasks.request import WIRE_VERSION, EngineName


class _Query(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="op",
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    v: int = msgspec.field(default_factory=lambda: WIRE_VERSION)
    request_id: str
    client_id: str
    table: str
    engine: EngineName | None = None


class Read(_Query, frozen=True, kw_only=True, tag="read"):
    """Read rows of a table as they are, or were at a version or a time."""

    columns: tuple[str, ...] | None = None
    where: str | None = None
    version: int | None = None
    #: ISO 8601 in UTC.
    timestamp: str | None = None
    limit: int | None = None
    #: Wait until the table has this version.
    min_version: int | None = None
    #: How long a worker may wait for it.
    wait_seconds: float = 0.0


class Scan(Read, frozen=True, kw_only=True, tag="scan"):
    """Read rows as a stream of parts, which the client takes while the worker makes more."""


class Sql(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="sql", omit_defaults=True):
    """Run a SELECT over the tables that it names."""

    v: int = msgspec.field(default_factory=lambda: WIRE_VERSION)
    request_id: str
    client_id: str
    #: Several tables; the outcome is kept under this name, which no table can have.
    table: str = "*"
    engine: EngineName | None = None
    text: str
    #: A result that has more rows, or bytes once uncompressed, is an error.
    max_rows: int
    max_bytes: int
    #: Versions that tables must have come to.
    min_versions: dict[str, int] = {}
    wait_seconds: float = 0.0


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far somebody who follows a table's commits has come."""

    #: Last version seen; -1 for none.
    version: int
    #: Tells its log entry from that of another table under the same name.
    mark: str = ""


class Commits(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="commits", omit_defaults=True
):
    """Read the commits after known places of some tables, in pages."""

    v: int = msgspec.field(default_factory=lambda: WIRE_VERSION)
    request_id: str
    client_id: str
    #: Several tables; the outcome is kept under this name, which no table can have.
    table: str = "*"
    engine: EngineName | None = None
    #: By table; None to be told only where its newest version is.
    places: dict[str, Place | None]


class History(_Query, frozen=True, kw_only=True, tag="history"):
    """Read the newest ``limit`` commits of a table, newest first."""

    limit: int


class Detail(_Query, frozen=True, kw_only=True, tag="detail"):
    """Describe a table: location, size, schema, partitions, properties."""


class Analyze(_Query, frozen=True, kw_only=True, tag="analyze"):
    """Tell how a table is stored: sizes of files and partitions, and what to do about them."""


class Exists(_Query, frozen=True, kw_only=True, tag="exists"):
    """Tell whether a Delta table of that name is in the lake."""


class ListTables(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="tables"):
    """List the names of the Delta tables in the lake."""

    v: int = msgspec.field(default_factory=lambda: WIRE_VERSION)
    request_id: str
    client_id: str
    #: A query of no table; its outcome is kept under this name, which no table can have.
    table: str = "*"
    engine: EngineName | None = None


Query = Read | Scan | Sql | Commits | History | Detail | Analyze | Exists | ListTables

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Query] = msgspec.json.Decoder(Query)


def query_name(query: Query) -> str:
    """Name a query as users know it: read, history, detail, exists, tables."""
    return str(type(query).__struct_config__.tag)


def encode_query(query: Query) -> str:
    """Write a query as JSON text, the argument of the Celery task."""
    return _encoder.encode(query).decode()


def decode_query(wire: str) -> Query:
    """Read a query and check the names in it.

    Raises:
        InvalidRequest: It is not a query that this version understands.
        InvalidTableName: The table's name is not allowed.
    """
    try:
        query = _decoder.decode(wire)
    except (msgspec.DecodeError, msgspec.ValidationError) as exc:
        raise InvalidRequest(f"not a query: {exc}") from exc
    if query.v > WIRE_VERSION:
        raise InvalidRequest(
            f"the query has wire version {query.v}, this worker reads up to {WIRE_VERSION}: "
            "upgrade the workers before the clients"
        )
    check_request_id(query.request_id)
    check_client_id(query.client_id)
    for table in _tables_in(query):
        check_table_name(table)
    return query


def _tables_in(query: Query) -> Iterable[str]:
    match query:
        case ListTables():
            return ()
        case Commits():
            return query.places
        case Sql():
            return query.min_versions  # those in the text are the worker's to find
    return (query.table,)


def needed_versions(query: Query) -> dict[str, int]:
    """Tell which versions tables must have come to before a query is answered."""
    if isinstance(query, Sql):
        return query.min_versions
    if isinstance(query, Read) and query.min_version is not None:
        return {query.table: query.min_version}
    return {}
