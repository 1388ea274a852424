"""Requests and staged files made by hand, for tests below the client."""

from __future__ import annotations

import secrets
import time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.tasks.request import (
    Append,
    Delete,
    FrameRequest,
    Merge,
    Overwrite,
    Request,
    encode_request,
    new_request_id,
)
from deltaq.tasks.staging import FOOTER_KEY, StagingArea

CLIENT_ID = "c" * 32


def make_append(table: str = "prices", **fields: Any) -> Append:
    return Append(**_common(table), **{"rows": 1, "shape": "s", **fields})


def make_request(kind: type[Request], table: str = "prices", **fields: Any) -> Request:
    if issubclass(kind, FrameRequest):
        fields = {"rows": 1, "shape": "s", **fields}
    request: Request = kind(**{**_common(table), **fields})
    return request


def _common(table: str) -> dict[str, Any]:
    return {
        "request_id": new_request_id(),
        "table": table,
        "client_id": CLIENT_ID,
        "submitted_at_ms": int(time.time() * 1000),
        "digest": secrets.token_hex(16),
        "size_bytes": 100,
    }


def stage(area: StagingArea, request: Request, rows: pa.Table | None = None) -> Request:
    """Write the staged file of a request and return the request."""
    path = area.request_path(request.table, request.request_id)
    table = rows if rows is not None else pa.table({})
    with area.create(path) as file, pq.ParquetWriter(file, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({FOOTER_KEY.decode(): encode_request(request).decode()})
    return request


__all__ = ["Append", "Delete", "Merge", "Overwrite", "make_append", "make_request", "stage"]
