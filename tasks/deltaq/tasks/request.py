"""What a client asks of one table, and how it is written on the wire.

A request is a frozen value; its wire form is JSON with a version number. It travels twice:
in the footer of its staged file, which is the durable copy, and in the table's inbox.
"""

from __future__ import annotations

import os
import threading
import time
from enum import StrEnum
from typing import Literal

import msgspec

from deltaq.tasks.errors import InvalidRequest
from deltaq.tasks.names import check_client_id, check_request_id, check_table_name

#: Version of the wire form. A reader refuses what is newer than itself.
WIRE_VERSION = 1
#: Hours; files of the last week may be needed by readers and time travel (Delta's default).
SAFE_RETENTION_HOURS = 168
#: Hours; what is longer is a mistake, and more than the engines can count.
MAX_RETENTION_HOURS = 100 * 366 * 24
#: Bytes; compacting to smaller files would make many.
MIN_TARGET_BYTES = 64 * 1024

EngineName = Literal["native", "spark"]
SchemaMode = Literal["merge"]
#: What becomes of the rows that a table has when a backfill is adopted.
LoadMode = Literal["append", "overwrite", "replace_partitions"]


class Lane(StrEnum):
    """One of a table's queues; order holds within a lane, never across lanes.

    Examples:
        >>> future = client.append("prices", frame, lane=Lane.BULK)
        >>> future.result(timeout=30).version
        1
    """

    LIVE = "live"
    BULK = "bulk"
    MAINTENANCE = "maintenance"


class _Request(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="op",
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """What every request says, whatever its operation."""

    #: Always written: omit_defaults does not apply to a factory.
    v: int = msgspec.field(default_factory=lambda: WIRE_VERSION)
    #: UUIDv7 made by the client unless the caller chose one; the idempotency key.
    request_id: str
    table: str
    lane: Lane = Lane.LIVE
    #: Whose channel hears the outcome.
    client_id: str
    #: UTC milliseconds by the client's clock; compared only with what that clock says later.
    submitted_at_ms: int
    #: Of the operation, its options and its rows: the same id with another one is a conflict.
    digest: str
    #: Size of the staged file, bytes.
    size_bytes: int
    #: Insist on an engine instead of letting the router choose.
    engine: EngineName | None = None
    #: Not to be applied if no worker has begun with it this long after it was submitted. On
    #: the wire only when set: a worker that does not know the field refuses the request.
    expires_ms: int | None = None
    #: Who submitted it, for the history; no part of what makes it the same request.
    submitted_by: str | None = None
    #: The span in which it was submitted, as W3C Trace Context writes it. On the wire only where
    #: clients trace.
    trace_parent: str | None = None


class _FrameRequest(_Request, frozen=True, kw_only=True):
    """A request that brings rows."""

    rows: int
    #: Digest of the column names in order: requests that agree on it fit one commit.
    shape: str
    #: Used when this request creates the table, compared with the table otherwise.
    partition_by: tuple[str, ...] | None = None
    #: ``merge``: columns that the table lacks are added to it.
    schema_mode: SchemaMode | None = None


class Append(_FrameRequest, frozen=True, kw_only=True, tag="append"):
    """Add the staged rows to the end of a table, creating it if need be."""


class Overwrite(_FrameRequest, frozen=True, kw_only=True, tag="overwrite"):
    """Replace all rows, or those that satisfy ``where``, by the staged ones."""

    where: str | None = None


class Merge(_FrameRequest, frozen=True, kw_only=True, tag="merge"):
    """Update the rows whose keys match and insert the others.

    Null keys match nothing, as in SQL.
    """

    keys: tuple[str, ...]
    #: Columns to update in matched rows; None means all, () none (insert only).
    update: tuple[str, ...] | None = None
    insert: bool = True
    #: Matched rows for which this holds over the staged columns are deleted, unmatched ignored.
    delete_when: str | None = None


class MergeScd2(_FrameRequest, frozen=True, kw_only=True, tag="merge_scd2"):
    """Keep every version of a row: close the current one of a key and add the staged one.

    A slowly changing dimension of type 2. Keys whose tracked columns are the same are left alone.
    """

    keys: tuple[str, ...]
    #: Columns whose change makes a new version; None means all but the keys.
    track: tuple[str, ...] | None = None
    #: When a version begins; without such a column in the frame, when it was submitted.
    valid_from: str
    #: When it ends; null while it is current.
    valid_to: str
    is_current: str


class Delete(_Request, frozen=True, kw_only=True, tag="delete"):
    """Remove the rows that satisfy ``where``. Its staged file has no columns, as all below."""

    where: str


class Column(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A column of a table that is not there yet; its type in Spark's SQL."""

    name: str
    type: str
    nullable: bool = True
    comment: str | None = None


class Create(_Request, frozen=True, kw_only=True, tag="create"):
    """Create a table without rows."""

    columns: tuple[Column, ...]
    partition_by: tuple[str, ...] = ()
    properties: dict[str, str] = {}
    comment: str | None = None


class Restore(_Request, frozen=True, kw_only=True, tag="restore"):
    """Make the table again what it was at a version or a time; exactly one of them is given."""

    version: int | None = None
    #: ISO 8601 in UTC.
    timestamp: str | None = None


class Drop(_Request, frozen=True, kw_only=True, tag="drop"):
    """Remove the table with all its versions."""


class SetProperties(_Request, frozen=True, kw_only=True, tag="set_properties"):
    """Set properties of the table, keeping those that are not named."""

    properties: dict[str, str]


class AddColumn(_Request, frozen=True, kw_only=True, tag="add_column"):
    """Add a column to the table, null in all rows."""

    column: Column


class RenameColumn(_Request, frozen=True, kw_only=True, tag="rename_column"):
    """Give a column of the table another name."""

    column: str
    to: str


class Adopt(_Request, frozen=True, kw_only=True, tag="adopt"):
    """Make the prepared files of a backfill, whose id is the request's, part of the table."""

    mode: LoadMode
    rows: int
    #: As of other requests that bring rows.
    partition_by: tuple[str, ...] | None = None
    schema_mode: SchemaMode | None = None


class Optimize(_Request, frozen=True, kw_only=True, tag="optimize"):
    """Compact small files; with ``zorder`` order all rows along those columns, in one pass."""

    zorder: tuple[str, ...] = ()
    #: Only partitions for which this holds.
    where: str | None = None
    #: Files below this size are small, and are made into such as have about it.
    target_bytes: int | None = None
    #: Only partitions with at least so many small files; Spark does not look at it.
    min_files: int = 2


class Vacuum(_Request, frozen=True, kw_only=True, tag="vacuum"):
    """Remove the files that no version of the last hours needs."""

    retention_hours: int = SAFE_RETENTION_HOURS
    #: Only tell which ones.
    dry_run: bool = False
    #: Without it less than SAFE_RETENTION_HOURS is refused.
    force: bool = False


class Checkpoint(_Request, frozen=True, kw_only=True, tag="checkpoint"):
    """Write a checkpoint of the newest version, from which the table is then opened."""


class Convert(_Request, frozen=True, kw_only=True, tag="convert"):
    """Make a Delta table of the Parquet files in a folder, where they are."""

    #: As the folders are named, from the outermost.
    partition_by: tuple[Column, ...] = ()


FrameRequest = Append | Overwrite | Merge | MergeScd2
#: Changes of a table that is there, besides its rows.
TableChange = Restore | SetProperties | AddColumn | RenameColumn
#: They change how a table is stored and no row of it: doing one twice does no harm.
Maintenance = Optimize | Vacuum | Checkpoint
Request = FrameRequest | Delete | Create | Convert | Drop | Adopt | TableChange | Maintenance


class _Version(msgspec.Struct):
    v: int


_encoder = msgspec.json.Encoder()
_version_decoder = msgspec.json.Decoder(_Version)
_request_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


def operation_of(request: Request) -> str:
    """Name the operation of a request as users know it: append, merge, delete, create ..."""
    return str(type(request).__struct_config__.tag)


def encode_request(request: Request) -> bytes:
    """Write a request in its wire form, UTF-8 JSON."""
    return _encoder.encode(request)


def decode_request(wire: bytes | str) -> Request:
    """Read a request from its wire form and check the names in it.

    Raises:
        InvalidRequest: It is not JSON, not a request, or of a newer wire version.
        InvalidTableName: The table's name is not allowed.
    """
    try:
        version = _version_decoder.decode(wire).v
        if version > WIRE_VERSION:
            raise InvalidRequest(
                f"the request has wire version {version}, this worker reads up to "
                f"{WIRE_VERSION}: upgrade the workers before the clients"
            )
        request = _request_decoder.decode(wire)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"not a request: {exc}") from exc
    check_table_name(request.table)
    check_request_id(request.request_id)
    check_client_id(request.client_id)
    return request


def milliseconds_left(request: Request) -> int | None:
    """Count what is left of a request's ``expires_ms``; None if it has no such limit.

    By the clock of this machine, which should be the one that submitted the request. After
    Redis was lost another one asks, and the difference of the two clocks is in the answer.
    """
    if request.expires_ms is None:
        return None
    return request.submitted_at_ms + request.expires_ms - time.time_ns() // 1_000_000


class RequestIds:
    """Makes UUIDv7 ids that sort in the order in which one process made them.

    Layout of RFC 9562: 48 bits of milliseconds, a 12-bit counter (its method 1), random bits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def new(self) -> str:
        """Return the next id, 32 hexadecimal digits."""
        with self._lock:
            # Milliseconds and counter as one number: an overflowing counter borrows from
            # the next millisecond instead of repeating itself.
            self._last = max(self._last + 1, time.time_ns() // 1_000_000 << 12)
            stamp, counter = divmod(self._last, 1 << 12)
        tail = int.from_bytes(os.urandom(8), "big") & (1 << 62) - 1
        return f"{stamp << 80 | 0x7 << 76 | counter << 64 | 0b10 << 62 | tail:032x}"


new_request_id = RequestIds().new
