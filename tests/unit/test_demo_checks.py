"""The demo's checks: one that cannot fail would prove nothing."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from deltaq.worker.demo.checks import CheckFailed, check_log, check_rows

ROWS = pa.table({"symbol": ["A", "A", "B"], "ts": [1, 2, 1], "price": [1.0, 2.0, 3.0]})


def test_the_same_rows_in_another_order_pass() -> None:
    check_rows("prices", ROWS.take([2, 0, 1]).select(["price", "ts", "symbol"]), ROWS)


@pytest.mark.parametrize(
    ("actual", "said"),
    [
        (ROWS.slice(1), "1 keys are missing, 0 doubled, 0 foreign"),
        (pa.concat_tables([ROWS, ROWS.slice(0, 1)]), "0 keys are missing, 1 doubled, 0 foreign"),
        (pa.concat_tables([ROWS.slice(1), ROWS.slice(1, 1)]), "1 keys are missing, 1 doubled"),
        (ROWS.set_column(1, "ts", pa.array([1, 3, 1])), "1 keys are missing, 0 doubled, 1 foreign"),
        (ROWS.set_column(2, "price", pa.array([1.0, 2.0, 3.1])), "values differ"),
    ],
    ids=["missing", "doubled", "one for another", "foreign", "changed"],
)
def test_rows_that_are_not_those_expected_fail(actual: pa.Table, said: str) -> None:
    with pytest.raises(CheckFailed, match=said):
        check_rows("prices", actual, ROWS)


def history(*notes: list[tuple[int, str]] | None) -> pa.Table:
    """Make a history, newest first, from notes in the order of their commits."""
    texts: list[Any] = [
        None if note is None else json.dumps({"deltaq": "deltaq/epoch/live", "requests": note})
        for note in notes
    ]
    return pa.table({"userMetadata": pa.array(texts[::-1], pa.string())})


def test_a_log_that_names_each_request_once_and_in_order_passes() -> None:
    check_log("prices", history([(1, "a"), (2, "b")], None, [(3, "c")]), ["c", "b", "a"])


def test_what_workers_do_to_keep_a_table_in_shape_is_nobody_s_request() -> None:
    note = {"deltaq": "deltaq/epoch/maintenance", "requests": [(1, "compacted")]}
    maintained = pa.table({"userMetadata": [json.dumps(note)]})

    check_log("prices", pa.concat_tables([maintained, history([(1, "a")])]), ["a"])


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (history([(1, "a")], [(2, "b")]), "names 2 requests"),
        (history([(1, "a"), (2, "b")], [(3, "c")], [(4, "c")]), "names 4 requests"),
        (history([(1, "a")], [(2, "b")], [(3, "x")]), "names 3 requests, others"),
        (history([(1, "a"), (3, "c")], [(2, "b")]), "do not rise"),
    ],
    ids=["missing", "doubled", "foreign", "out of order"],
)
def test_a_log_that_misses_doubles_or_reorders_a_request_fails(log: pa.Table, said: str) -> None:
    with pytest.raises(CheckFailed, match=said):
        check_log("prices", log, ["a", "b", "c"])
