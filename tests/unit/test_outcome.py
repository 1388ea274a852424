"""Outcomes as Redis keeps them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from deltaq.tasks.error_info import ErrorInfo
from deltaq.tasks.outcome import Outcome, State, decode_outcome, encode_outcome

WHOSE: dict[str, Any] = {"table": "prices", "request_id": "r1"}
COMMITTED = Outcome(
    **WHOSE,
    operation="merge",
    state=State.COMMITTED,
    version=3,
    rows=2,
    updated=0,
    engine="native",
    engine_reason="small",
    sequence=17,
    commit_seconds=0.25,
)
FAILED = Outcome(
    **WHOSE,
    operation="append",
    state=State.FAILED,
    error=ErrorInfo(code="schema_mismatch", message="no", details={"extra": ["a"]}),
)


@pytest.mark.parametrize("outcome", [COMMITTED, FAILED], ids=lambda o: o.state)
def test_what_redis_keeps_is_the_outcome_with_what_its_key_says(outcome: Outcome) -> None:
    kept = encode_outcome(outcome)

    assert decode_outcome(kept, **WHOSE, state=outcome.state) == outcome
    assert b"r1" not in kept
    assert len(kept) < len(msgspec.json.encode(outcome))


def test_outcomes_of_an_older_and_of_a_newer_version_can_be_read() -> None:
    kept = msgspec.json.decode(encode_outcome(COMMITTED))
    older, newer = kept[:-2], [*kept, "more"]

    for wire in (older, newer):
        read = decode_outcome(msgspec.json.encode(wire), **WHOSE, state="committed")
        assert read == COMMITTED


def test_an_outcome_shows_what_it_has_to_tell_and_nothing_else() -> None:
    assert repr(COMMITTED) == (
        "<Outcome merge on prices: committed; version=3, rows=2, updated=0, engine='native', "
        "engine_reason='small', sequence=17, commit_seconds=0.25, request_id='r1'>"
    )
    assert "message='no'" in repr(FAILED)


def test_an_outcome_is_a_table_in_a_notebook() -> None:
    html = COMMITTED._repr_html_()
    assert "<caption>merge on prices</caption>" in html
    assert "<td style='text-align:left'>committed</td>" in html
    assert "waited_seconds" not in html
    hostile = msgspec.structs.replace(FAILED, error=ErrorInfo(code="c", message="<script>"))
    assert "c: &lt;script&gt;" in hostile._repr_html_()
