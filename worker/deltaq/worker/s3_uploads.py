"""Ends uploads to S3 in several parts that nobody will complete: their bytes are paid for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.s3 import Bucket
from deltaq.tasks.s3_path import S3Path


def abort_uploads(folder: Location, *, older_than: float) -> int:
    """Abort the uploads below a folder that began so many seconds ago; on a disk there are none.

    Returns:
        How many there were.

    Raises:
        StorageUnavailable: The storage refused.
    """
    if not isinstance(folder, S3Path):
        return 0
    limit, aborted = time.time() - older_than, 0
    try:
        with folder.errors():
            for key, upload_id, began in _uploads(folder):
                if began < limit:
                    _abort(folder.bucket, key, upload_id)
                    aborted += 1
    except OSError as exc:
        told = exc.strerror or exc
        raise StorageUnavailable(f"{folder}: cannot clear unfinished uploads: {told}") from exc
    return aborted


def _abort(bucket: Bucket, key: str, upload_id: str) -> None:
    # Its owner, or another worker, may have ended it meanwhile.
    with contextlib.suppress(FileNotFoundError), bucket.errors(key):
        bucket.uploads.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=upload_id)


def _uploads(folder: S3Path) -> Iterator[tuple[str, str, float]]:
    """Yield key, id and beginning of the unfinished uploads below a folder."""
    bucket = folder.bucket
    pages = bucket.uploads.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket.name, Prefix=f"{folder.key}/" if folder.key else ""
    )
    for page in pages:
        for found in page.get("Uploads", ()):
            yield found["Key"], found["UploadId"], found["Initiated"].timestamp()
