"""Whether all requests of a group were asked for by holders of the key."""

from __future__ import annotations

from deltaq.tasks.signing import Signer
from deltaq.tasks.staging import StagingArea
from deltaq.worker.groups import CommitGroup


class Signatures:
    """Checks requests before an engine sees their files: Spark reads these in its own process.

    Args:
        signer: Has the keys.
        staging: Where the staged files are.
    """

    def __init__(self, signer: Signer, staging: StagingArea) -> None:
        self._signer = signer
        self._staging = staging

    def check(self, group: CommitGroup) -> None:
        """Make sure that each request of a group is what somebody signed.

        Raises:
            InvalidSignature: One is not.
            StagedDataMissing: Its file is gone or no Parquet.
            StorageUnavailable: It cannot be read now.
        """
        for request in group.requests:
            path = self._staging.request_path(request.table, request.request_id)
            self._signer.check_request(request, path)
