"""The crash-point matrix: whatever happens wherever, each request is in the table once, in order.

``python -m tests.fault.matrix`` counts the cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.fault.evidence import Evidence
from tests.fault.matrix import RUNS, S3_RUNS, Run
from tests.fault.work import REFUSALS, Operation, Part, request_id, rows_after
from tests.support.faulty import table_name
from tests.support.steps import HOOKS, Step


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each cell of the runs that fit the storage."""
    if "evidence_of" in metafunc.fixturenames:
        is_on_disk = metafunc.config.getoption("storage") == "disk"
        cells = _cells(RUNS if is_on_disk else S3_RUNS)
        metafunc.parametrize(("run", "step", "operation"), cells)


def _cells(runs: Sequence[Run]) -> list[Any]:
    return [
        pytest.param(
            run,
            step,
            operation,
            id=f"{run.name}-{step}-{operation}",
            marks=[pytest.mark.slow] if run.engine == "spark" else [],
        )
        for run in runs
        for step, operation in run.cells
    ]


@pytest.mark.s3
@pytest.mark.timeout(600)
def test_each_request_is_in_the_table_once_and_in_order(
    evidence_of: Callable[[Run], dict[str, Evidence]], run: Run, step: Step, operation: Operation
) -> None:
    table = table_name(step, operation)
    refused = request_id(table, Part.BAD)
    accepted = [request_id(table, part) for part in run.parts if part is not Part.BAD]

    found = evidence_of(run)[table]

    assert found.told.pending == []
    assert found.told.errors == {refused: REFUSALS[operation].code}
    assert [request_id for request_id, _ in found.committed] == accepted
    assert found.sequences == sorted(set(found.sequences))
    assert found.told.versions == dict(found.committed)
    assert found.rows == rows_after(operation, run.parts)
    assert found.dead == {refused}
    assert found.leftovers == []


@pytest.mark.parametrize("step", Step)
def test_each_step_finds_its_function(step: Step) -> None:
    for hook in HOOKS[step]:
        owner, name = hook.owner()
        assert callable(getattr(owner, name))
