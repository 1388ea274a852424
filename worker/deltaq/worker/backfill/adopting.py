"""The request that adopts a backfill's files: staged and submitted by whichever worker is there."""

from __future__ import annotations

import contextlib
import hashlib

import msgspec

from deltaq.tasks.manifest import Manifest
from deltaq.tasks.request import Adopt
from deltaq.tasks.signing import Signer
from deltaq.tasks.staging import StagingArea
from deltaq.worker.backfill.plan import adopt_request
from deltaq.worker.orders import order_file


def stage_adopt(
    staging: StagingArea, manifest: Manifest, *, rows: int, at_ms: int, signer: Signer | None
) -> Adopt:
    """Stage the request that adopts what was prepared, unless it is staged already.

    Whoever does it writes the same request.

    Args:
        staging: Where to.
        manifest: That of the backfill.
        rows: How many were prepared.
        at_ms: When all were, since 1970: before, the request waited for nothing.
        signer: Signs it, where workers ask for that.

    Raises:
        StorageUnavailable: The staging area cannot be written now.
    """
    digest = hashlib.blake2b(msgspec.json.encode(manifest), digest_size=16).hexdigest()
    request = adopt_request(manifest, rows=rows, at_ms=at_ms, digest=digest)
    with (
        contextlib.suppress(FileExistsError),
        staging.create(staging.request_path(request.table, request.request_id)) as file,
    ):
        file.write(order_file(request, signer))
    return request
