"""Which requests may share a commit."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaq.tasks.entries import Clock
from deltaq.tasks.request import (
    AddColumn,
    Append,
    Column,
    Create,
    Delete,
    Drop,
    Lane,
    Merge,
    MergeScd2,
    Overwrite,
    Request,
    Restore,
    SetProperties,
)
from deltaq.worker.groups import (
    Claims,
    CommitGroup,
    Waiting,
    plan_group,
    split_expired,
    suspects,
)
from tests.support.requests import make_append, make_request


def _waiting(*requests: Request) -> list[Waiting]:
    return [Waiting(sequence=n, request=r) for n, r in enumerate(requests, start=1)]


def test_appends_with_the_same_columns_share_a_commit() -> None:
    waiting = _waiting(*(make_append() for _ in range(5)))

    assert plan_group(waiting, max_requests=500, max_bytes=10_000) == tuple(waiting)


def test_appends_with_other_columns_begin_another_commit() -> None:
    waiting = _waiting(make_append(), make_append(), make_append(shape="other"))

    assert len(plan_group(waiting, max_requests=500, max_bytes=10_000)) == 2


def test_appends_that_insist_on_another_engine_begin_another_commit() -> None:
    waiting = _waiting(make_append(), make_append(engine="spark"))

    assert len(plan_group(waiting, max_requests=500, max_bytes=10_000)) == 1


def test_an_overwrite_goes_alone() -> None:
    waiting = _waiting(make_request(Overwrite), make_request(Overwrite))

    assert len(plan_group(waiting, max_requests=500, max_bytes=10_000)) == 1


def test_what_changes_a_table_besides_its_rows_goes_alone() -> None:
    evolving = make_append(schema_mode="merge")
    others = [
        evolving,
        make_request(Drop),
        make_request(Create, columns=(Column(name="k", type="int"),)),
        make_request(Restore, version=0),
        make_request(SetProperties, properties={"a": "b"}),
        make_request(AddColumn, column=Column(name="n", type="int")),
        make_request(MergeScd2, keys=("k",), valid_from="f", valid_to="t", is_current="c"),
    ]
    for other in others:
        for pair in ([other, make_append()], [make_append(), other], [other, other]):
            assert len(plan_group(_waiting(*pair), max_requests=500, max_bytes=10_000)) == 1


def test_an_append_does_not_pass_a_delete() -> None:
    delete = make_request(Delete, where="true")
    waiting = _waiting(make_append(), delete, make_append())

    assert len(plan_group(waiting, max_requests=500, max_bytes=10_000)) == 1


def test_a_request_over_the_limit_goes_alone_instead_of_never() -> None:
    big = msgspec.structs.replace(make_append(), size_bytes=10**9)
    waiting = _waiting(big, make_append())

    assert plan_group(waiting, max_requests=500, max_bytes=10_000) == tuple(waiting[:1])


@given(sizes=st.lists(st.integers(1, 100), min_size=1, max_size=30), limit=st.integers(1, 500))
def test_a_group_is_the_longest_head_within_the_limits(sizes: list[int], limit: int) -> None:
    waiting = _waiting(*(msgspec.structs.replace(make_append(), size_bytes=s) for s in sizes))

    group = plan_group(waiting, max_requests=10, max_bytes=limit)

    assert group == tuple(waiting[: len(group)])
    assert len(group) <= 10
    assert len(group) == 1 or sum(sizes[: len(group)]) <= limit
    if len(group) < min(10, len(sizes)):
        assert sum(sizes[: len(group) + 1]) > limit


def test_halves_keep_order_and_lose_nobody() -> None:
    members = tuple(_waiting(*(make_append() for _ in range(5))))
    group = CommitGroup(table="prices", lane=Lane.LIVE, app_id="deltaq/e/live", members=members)

    first, second = group.halves()

    assert first.members + second.members == members
    assert (first.sequence, second.sequence) == (2, 5)
    assert isinstance(first.first, Append)


def test_merges_of_whole_rows_by_the_same_keys_share_a_commit() -> None:
    waiting = _waiting(*(make_request(Merge, keys=("id",)) for _ in range(3)))

    assert len(plan_group(waiting, max_requests=500, max_bytes=10_000)) == 3


@pytest.mark.parametrize(
    "other",
    [
        {"keys": ("ts",)},
        {"keys": ("id",), "update": ("price",)},
        {"keys": ("id",), "update": ()},
        {"keys": ("id",), "insert": False},
        {"keys": ("id",), "delete_when": "op = 'D'"},
        {"keys": ("id",), "shape": "other"},
    ],
)
def test_merges_whose_order_could_matter_do_not_share_a_commit(other: dict[str, Any]) -> None:
    waiting = _waiting(make_request(Merge, keys=("id",)), make_request(Merge, **other))

    assert len(plan_group(waiting, max_requests=500, max_bytes=10_000)) == 1
    assert len(plan_group(waiting[::-1], max_requests=500, max_bytes=10_000)) == 1


def test_what_nobody_tried_is_grouped_freely() -> None:
    waiting = _waiting(*(make_append() for _ in range(5)))

    assert suspects(waiting, Claims()) == waiting


@pytest.mark.parametrize("crashes", [0, 1])
def test_what_was_tried_before_is_tried_again_before_anything_joins_it(crashes: int) -> None:
    waiting = _waiting(*(make_append() for _ in range(5)))

    assert suspects(waiting, Claims(upto=3, began=1, crashes=crashes)) == waiting[:3]


def test_after_two_crashes_requests_are_tried_one_by_one_up_to_the_last_suspect() -> None:
    waiting = _waiting(*(make_append() for _ in range(5)))
    claims = Claims(upto=3, began=1, crashes=2)

    assert [len(suspects(waiting[n:], claims)) for n in range(5)] == [1, 1, 1, 2, 1]


def test_only_the_request_of_the_third_crash_is_poison() -> None:
    first, second, third = _waiting(*(make_append() for _ in range(3)))
    claims = Claims(upto=3, began=2, crashes=3)

    assert claims.poison(second)
    assert not claims.poison(third)
    assert suspects([third], claims) == [third]
    assert not Claims(upto=3, began=1, crashes=2).poison(first)


def test_a_claim_behind_the_suspects_forgets_them() -> None:
    waiting = _waiting(*(make_append() for _ in range(5)))
    claims = Claims(upto=2, began=1, attempt=3, crashes=2, cause="x")

    assert claims.made(waiting[:1], 4) == Claims(upto=2, began=1, attempt=4, crashes=2, cause="x")
    assert claims.made(waiting[2:], 1) == Claims(upto=5, began=3, attempt=1)


@given(
    deadlines=st.lists(st.none() | st.integers(0, 20), max_size=8),
    now_ms=st.integers(0, 20),
    claimed=st.integers(0, 8),
)
def test_what_expired_is_split_off_in_front_and_never_in_what_is_planned(
    deadlines: list[int | None], now_ms: int, claimed: int
) -> None:
    waiting = [
        Waiting(sequence=n, request=make_append(), deadline_ms=deadline)
        for n, deadline in enumerate(deadlines, start=1)
    ]

    expired, rest = split_expired(waiting, Clock(now_ms=now_ms, claimed=claimed))

    assert [*expired, *rest] == waiting[: len(expired) + len(rest)]
    for item in expired:
        assert item.deadline_ms is not None
        assert item.deadline_ms <= now_ms
        assert item.sequence > claimed
    for item in rest:
        in_time = item.deadline_ms is None or item.deadline_ms > now_ms
        assert in_time or item.sequence <= claimed
    assert bool(expired or rest) == bool(waiting)
