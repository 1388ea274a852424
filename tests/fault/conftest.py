"""The runs of the crash-point matrix, each performed once for all its cells."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fault.evidence import Evidence
from tests.fault.matrix import RUNS, S3_RUNS, Run, table_of
from tests.fault.runs import perform


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show how many cells of the matrix held."""
    runs = S3_RUNS if config.getoption("storage") == "s3" else RUNS
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", [])]
    held = [(run, sum(f"_in_order[{run.name}-" in cell for cell in passed)) for run in runs]
    if any(count for _, count in held):
        terminalreporter.section("crash-point matrix: cells that held")
        terminalreporter.write_line(table_of((run, count) for run, count in held if count))


@pytest.fixture(scope="session")
def evidence_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Run], dict[str, Evidence]]:
    """Perform a run when its first cell asks; one that failed fails all its cells."""
    known: dict[Run, dict[str, Evidence]] = {}
    skipped: dict[Run, str] = {}

    def evidence_of(run: Run) -> dict[str, Evidence]:
        if run in skipped:
            pytest.skip(skipped[run])
        if run not in known:
            known[run] = {}
            try:
                server = request.getfixturevalue("s3_server") if run.storage == "s3" else None
                known[run] = perform(run, tmp_path_factory.mktemp(run.name), server)
            except pytest.skip.Exception as exc:
                skipped[run] = str(exc)
                raise
        assert known[run], "the run came to no end; the first of its cells says why"
        return known[run]

    return evidence_of
