"""A killed committer is replaced in time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.takeover import ALLOWED, table_of, take_over


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_next_commit_after_a_kill_comes_within_the_lease_time_and_two_seconds(
    tmp_path: Path,
) -> None:
    ttl, found = take_over(tmp_path, kills=3)

    assert max(t.seconds for t in found) <= ttl + ALLOWED, table_of(ttl, found)
