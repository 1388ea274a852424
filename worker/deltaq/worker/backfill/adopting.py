"""The request that adopts a backfill's files: staged and submitted by whichever worker is there."""

from __future__ import annotations

import contextlib
import hashlib
import io

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.tasks.backfill import Manifest
from deltaq.tasks.request import Adopt, encode_request
from deltaq.tasks.signing import BLANK, SIGNATURE_KEY, Signer, place_of
from deltaq.tasks.staging import FOOTER_KEY, StagingArea
from deltaq.worker.backfill.plan import adopt_request

#: The end of a Parquet file: the length of its footer, and "PAR1".
_TAIL = 8


def stage_adopt(
    staging: StagingArea, manifest: Manifest, *, rows: int, signer: Signer | None
) -> Adopt:
    """Stage the request that adopts what was prepared, unless it is staged already.

    Whoever does it writes the same request.

    Raises:
        StorageUnavailable: The staging area cannot be written now.
    """
    digest = hashlib.blake2b(msgspec.json.encode(manifest), digest_size=16).hexdigest()
    request = adopt_request(manifest, rows=rows, digest=digest)
    with (
        contextlib.suppress(FileExistsError),
        staging.create(staging.request_path(request.table, request.request_id)) as file,
    ):
        file.write(_staged_file(request, signer))
    return request


def _staged_file(request: Adopt, signer: Signer | None) -> bytes:
    """Make a Parquet file without columns and the request in its footer."""
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
