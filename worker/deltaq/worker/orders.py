"""Requests that a worker makes itself: staged like those of clients, with no rows."""

from __future__ import annotations

import contextlib
import io

import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.tasks.request import Request, encode_request
from deltaq.tasks.signing import BLANK, SIGNATURE_KEY, Signer, place_of
from deltaq.tasks.staging import FOOTER_KEY, StagingArea, staged_request

#: The end of a Parquet file: four bytes with the length of the footer, and "PAR1".
_TAIL = 8


def stage_order(staging: StagingArea, request: Request, signer: Signer | None) -> Request:
    """Stage a request without rows; if its id has a staged file already, return what is in it.

    Raises:
        StorageUnavailable: The staging area cannot be written now.
        StagedDataMissing: The file that was there is gone, or damaged.
    """
    path = staging.request_path(request.table, request.request_id)
    with contextlib.suppress(FileExistsError):
        with staging.create(path) as file:
            file.write(order_file(request, signer))
        return request
    return staged_request(path)


def order_file(request: Request, signer: Signer | None) -> bytes:
    """Make a staged file without columns, the request in its footer."""
    sink = io.BytesIO()
    metadata = {FOOTER_KEY: encode_request(request)}
    if signer is not None:
        metadata[SIGNATURE_KEY] = BLANK
    with pq.ParquetWriter(sink, pa.schema([]), store_schema=False) as writer:
        writer.add_key_value_metadata(metadata)
    content = sink.getvalue()
    if signer is None:
        return content
    mac = signer.begin()
    mac.update(content)
    footer = len(content) - _TAIL - int.from_bytes(content[-_TAIL:-4], "little")
    place = footer + place_of(content[footer:], BLANK)
    return content[:place] + mac.hexdigest().encode() + content[place + len(BLANK) :]
