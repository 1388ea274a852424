"""A part of the backlog that ``python -m tests.fault.backlog`` makes whole: 200,000 requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.backlog import queue_and_commit

REQUESTS = 10_000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_backlog_fits_into_redis_and_its_client_and_is_committed_by_one_worker(
    tmp_path: Path,
) -> None:
    backlog = queue_and_commit(tmp_path, requests=REQUESTS)

    assert backlog.redis_bytes <= backlog.redis_limit, backlog.text()
    assert backlog.client_bytes <= backlog.client_limit, backlog.text()
