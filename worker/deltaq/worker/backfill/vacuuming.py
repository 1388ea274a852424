"""Keeps a vacuum from files that are prepared and in no version of the table yet."""

from __future__ import annotations

import logging
import math
import time

from deltaq.tasks.backfill import Backfill, list_backfills
from deltaq.tasks.errors import InvalidRequest, RequestError
from deltaq.tasks.request import Vacuum
from deltaq.tasks.staging import StagingArea

logger = logging.getLogger(__name__)

#: Seconds by which the clocks of those who load and those who clean may differ.
_CLOCKS_APART = 3600.0


def check_vacuum(request: Vacuum, staging: StagingArea) -> None:
    """Make sure that a vacuum leaves alone what backfills of its table have prepared.

    Raises:
        InvalidRequest: It would remove files of one that goes on.
        StorageUnavailable: The staging area cannot be read now.
    """
    for backfill_id in list_backfills(staging):
        backfill = Backfill(staging, backfill_id)
        try:
            verdict, manifest = backfill.verdict(), backfill.manifest()
        except RequestError as exc:
            logger.warning("%s", exc)
            continue
        if manifest.table != request.table or (verdict is not None and verdict.cleaned):
            continue
        seconds = max(0.0, time.time() - manifest.submitted_at_ms / 1000) + _CLOCKS_APART
        hours = math.ceil(seconds / 3600)
        if request.retention_hours < hours:
            raise InvalidRequest(
                f"table {request.table}: backfill {backfill_id} is preparing files, and a vacuum "
                f"that keeps {request.retention_hours} hours may remove them; use "
                f"retention_hours={hours} or more, or wait for its end",
                table=request.table,
                details={"backfill_id": backfill_id, "retention_hours": hours},
            )
