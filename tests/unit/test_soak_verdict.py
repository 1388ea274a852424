"""The soak's verdict sees what it is there to see."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from tests.fault.soak.plan import Kind, Work, rows_after
from tests.fault.soak.verdict import TableVerdict, Told, judge
from tests.fault.soak.watch import growth

WORKS = [Work(table="appended", writer=1, number=number) for number in range(4)]


def commit(path: Path, works: list[Work], *, rows: list[Work] | None = None) -> None:
    """Commit requests one by one as a worker would, or other rows than they bring."""
    for sequence, (work, brings) in enumerate(zip(works, rows or works, strict=True), 1):
        names = ["key", "writer", "number"]
        columns = [list(c) for c in zip(*brings.rows, strict=True)]
        note = {"deltaq": "deltaq/e/live", "requests": [[sequence, work.request_id]]}
        write_deltalake(
            str(path),
            pa.table(columns, names=names),
            mode="append",
            commit_properties=CommitProperties(
                custom_metadata={"userMetadata": json.dumps(note)},
                app_transactions=[Transaction("deltaq/e/live", sequence)],
            ),
        )


def verdict(path: Path, works: list[Work]) -> TableVerdict:
    told = {w.request_id: Told(version=n, error=None) for n, w in enumerate(works)}
    return judge(path, told)


def test_what_is_as_told_has_no_complaints(tmp_path: Path) -> None:
    commit(tmp_path / "t", WORKS)

    assert list(verdict(tmp_path / "t", WORKS).complaints) == []


@pytest.mark.parametrize(
    ("done", "wanted"),
    [
        (WORKS[:3], {"lost", "mistold"}),
        ([*WORKS, WORKS[3]], {"doubled", "misordered", "mistold", "wrong_rows"}),
        ([WORKS[1], WORKS[0], *WORKS[2:]], {"misordered", "mistold"}),
    ],
    ids=["lost", "doubled", "misordered"],
)
def test_a_lost_a_doubled_and_a_late_request_are_seen(
    tmp_path: Path, done: list[Work], wanted: set[str]
) -> None:
    commit(tmp_path / "t", done)

    complaints = list(verdict(tmp_path / "t", WORKS).complaints)

    assert {complaint.split(":")[0].split(" ", 1)[1] for complaint in complaints} == wanted


def test_rows_that_no_request_brought_are_seen(tmp_path: Path) -> None:
    other = Work(table="appended", writer=2, number=9)
    commit(tmp_path / "t", WORKS, rows=[*WORKS[:3], other])

    found = verdict(tmp_path / "t", WORKS)

    assert len(found.wrong_rows) == 2 * len(other.rows)


def test_each_kind_of_work_changes_the_model_as_it_says() -> None:
    works = {
        work.kind: work
        for number in range(10)
        for work in [Work(table="mixed", writer=1, number=number)]
    }
    base = [Work(table="mixed", writer=writer, number=0) for writer in (1, 2)]

    assert rows_after([*base, works[Kind.REPLACE]]) == sorted(
        [*base[1].rows, *works[Kind.REPLACE].rows]
    )
    late = Work(table="mixed", writer=1, number=1005)
    assert late.kind is Kind.DELETE
    assert rows_after([*base, late]) == sorted(base[1].rows)
    assert rows_after([works[Kind.MERGE]] * 2) == sorted(works[Kind.MERGE].rows)


def test_growth_compares_late_with_early_and_leaves_out_the_start() -> None:
    assert growth([1, 1, 50, 50, 60, 60, 70, 70, 90, 90]) == (50, 90)
