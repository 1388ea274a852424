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
        file.write(order_file(request, signer))
    return request
