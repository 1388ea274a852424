"""Three minutes of the soak: ``python -m tests.fault.soak`` runs it for as long as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.soak.run import soak

SECONDS = 180


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_writers_lose_and_double_nothing_while_something_fails_every_few_seconds(
    tmp_path: Path,
) -> None:
    report = soak(tmp_path, seconds=SECONDS, spark=False, seed=1)
    report.write(tmp_path / "soak.json")

    assert report.complaints == [], report.text()
    # The rate of the long soak: 50,000 requests in 30 minutes. A busy machine gets half of it.
    assert report.requests >= 50_000 / 1800 * SECONDS / 2
    assert sum(report.faults.values()) >= SECONDS / 10
