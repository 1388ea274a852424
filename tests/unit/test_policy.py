from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaq.client.cli_maintain import planned
from deltaq.tasks.errors import ConfigurationError, InvalidRequest
from deltaq.tasks.policy import Policy, default_policy, policy_properties, table_policy
from deltaq.tasks.request import Optimize, Vacuum
from deltaq.tasks.settings import load_settings
from deltaq.worker.maintenance.slicing import (
    Partition,
    bins,
    count_bins,
    is_large,
    packs,
    to_rewrite,
)
from deltaq.worker.maintenance.wishes import TIERS, Survey, Wish, wish_for

NOON = datetime(2024, 5, 31, 12, tzinfo=UTC)
KiB = 1024


def test_a_policy_is_read_from_properties_as_it_was_written() -> None:
    wishes = {
        "compact_files": 5,
        "zorder": ["a b", "c"],
        "vacuum_hours": 168,
        "hours": "22:00-06:00",
    }

    properties = policy_properties(wishes)

    assert all(name.startswith("deltaq.policy.") for name in properties)
    expected = Policy(compact_files=5, zorder=("a b", "c"), vacuum_hours=168, hours="22:00-06:00")
    assert table_policy({**properties, "owner": "me"}, Policy()) == expected
    assert table_policy(policy_properties({"zorder": "k"}), Policy()).zorder == ("k",)


def test_what_a_policy_brings_is_told_in_words() -> None:
    nothing = Policy(compact_files=0, vacuum_hours=0)
    assert planned(nothing) == ["write a checkpoint every 20 commits"]
    assert planned(Policy(zorder=("a", "b"), zorder_hours=0, compact_files=0)) == planned(nothing)

    plan = planned(Policy(zorder=("a", "b"), vacuum_hours=200, hours="22:00-06:00"))
    assert plan == [
        "compact when a partition has more than 32 small files, or the table sleeps with far more "
        "files than it needs, in 22:00-06:00 UTC only",
        "order by a, b every 24 hours, in 22:00-06:00 UTC only",
        "remove once a day what no version of 200 hours needs, in 22:00-06:00 UTC only",
        "write a checkpoint every 20 commits",
    ]


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({}, "nothing to set"),
        ({"compact": 5}, "no 'compact' (did you mean 'compact_files'?)"),
        ({"compact_files": -1}, "'-1' is no whole number from 0"),
        ({"compact_files": 1.5}, "1.5 is neither"),
        ({"compact_files": True}, "True is neither"),
        ({"checkpoint_commits": 0}, "from 1"),
        ({"vacuum_hours": 24}, "at least 168 hours, or 0"),
        ({"vacuum_hours": 10**9}, "at least 168 hours"),
        ({"hours": "22-6"}, "as '22:00-06:00'"),
        ({"hours": "24:00-25:00"}, "as '22:00-06:00'"),
        ({"zorder": [1]}, "names no columns"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(wishes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        policy_properties(wishes)
    assert said in caught.value.message


def test_properties_that_no_policy_wrote_change_nothing() -> None:
    properties = {
        "deltaq.policy.compact_files": "many",
        "deltaq.policy.hours": "at night",
        "deltaq.policy.zorder": "k",
        "deltaq.policy.vacuum_hours": "1",
        "deltaq.policy.checkpoint_commits": "50",
    }
    assert table_policy(properties, Policy()) == Policy(checkpoint_commits=50)


def test_the_settings_are_the_policy_of_tables_without_one(tmp_path: Any) -> None:
    settings = load_settings(lake=tmp_path, policy_compact_files=9, policy_hours="01:00-02:00")
    assert default_policy(settings) == Policy(compact_files=9, hours="01:00-02:00")
    for wrong in ({"policy_vacuum_hours": 24}, {"policy_hours": "always"}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            load_settings(lake=tmp_path, **wrong)


@pytest.mark.parametrize(
    ("hours", "clock", "may"),
    [
        ("always", "03:00", True),
        ("22:00-06:00", "21:59", False),
        ("22:00-06:00", "22:00", True),
        ("22:00-06:00", "05:59", True),
        ("22:00-06:00", "06:00", False),
        ("09:00-17:00", "12:00", True),
        ("09:00-17:00", "17:00", False),
    ],
)
def test_hours_are_in_utc_and_may_go_past_midnight(hours: str, clock: str, may: bool) -> None:
    now = datetime.fromisoformat(f"2024-05-31T{clock}+00:00")
    elsewhere = now.astimezone(timezone(timedelta(hours=5)))
    assert Policy(hours=hours).may_begin(now) is may
    assert Policy(hours=hours).may_begin(elsewhere) is may


def partition(files: int, each: int, *, name: str = "a", target: int = TIERS[-1]) -> Partition:
    small = files if each < target else 0
    return Partition(
        values=(name,),
        files=files,
        size_bytes=files * each,
        small_files=small,
        small_bytes=small * each,
    )


def survey(*partitions: tuple[int, int], **fields: Any) -> Survey:
    tiers = {
        size: [
            partition(files, each, name=str(n), target=size)
            for n, (files, each) in enumerate(partitions)
        ]
        for size in TIERS
    }
    return Survey(tiers=tiers, properties={}, columns=["k"], **fields)


def wish(found: Survey, policy: Policy | None = None, **options: Any) -> Wish | None:
    hours = {"zorder": math.inf, "vacuum": math.inf, **options.pop("hours", {})}
    given = {"idle": False, "now": NOON, "hours_since": hours, **options}
    return wish_for(found, policy or Policy(), **given)


def test_a_partition_with_too_many_small_files_is_compacted_to_the_smallest_size_that_helps() -> (
    None
):
    assert wish(survey((32, KiB), (1, KiB))) is None

    small = wish(survey((33, KiB), (1, KiB)))
    large = wish(survey((33, 2 * KiB * KiB), (10, KiB)))

    assert small is not None
    assert small.kind is Optimize
    assert small.options == {"target_bytes": TIERS[0], "min_files": 33}
    assert small.why == "33 files in one partition are below 0.5 MiB, of 32 that may be"
    assert large is not None
    assert large.options["target_bytes"] == TIERS[1]


def test_files_of_the_right_size_are_left_alone() -> None:
    assert wish(survey((500, TIERS[-1])), idle=True) is None


def test_a_table_that_sleeps_is_compacted_to_what_it_needs() -> None:
    many = survey(*[(3, KiB)] * 20)
    assert wish(many) is None
    asked = wish(many, idle=True)
    assert asked is not None
    assert asked.options == {}
    assert asked.why == "the table sleeps with 60 files where 20 would do"
    # Few files in all are not worth a commit.
    assert wish(survey((20, KiB)), idle=True) is None
    assert wish(survey(*[(2, KiB)] * 20), idle=True) is None


def test_nothing_is_asked_for_outside_the_hours_or_when_the_policy_says_never() -> None:
    crowded = survey(*[(99, KiB)] * 9)
    assert wish(crowded, Policy(hours="22:00-06:00")) is None
    assert wish(crowded, Policy(compact_files=0), idle=True) is None


def test_rows_are_ordered_and_files_removed_as_often_as_the_policy_says() -> None:
    policy = Policy(zorder=("gone", "k"), zorder_hours=5, vacuum_hours=200)
    first = wish(survey((1, KiB)), policy)
    assert first is not None
    assert first.options == {"zorder": ("k",)}
    second = wish(survey((1, KiB)), policy, hours={"zorder": 4})
    assert second is not None
    assert (second.kind, second.options) == (Vacuum, {"retention_hours": 200})
    assert wish(survey((1, KiB)), policy, hours={"zorder": 4, "vacuum": 23}) is None
    assert wish(survey(), Policy(zorder=("k",))) is None


def test_partitions_are_chosen_in_one_order_and_gathered_to_commits_of_some_size() -> None:
    found = [partition(900, KiB, name=name) for name in "dbca"] + [partition(1, KiB, name="e")]

    todo = to_rewrite(found, ordered=False, min_files=0)

    assert [p.values for p in todo] == [("a",), ("b",), ("c",), ("d",)]
    assert [len(pack) for pack in packs(todo, ordered=False)] == [2, 2]
    assert len(to_rewrite(found, ordered=True, min_files=0)) == 5
    assert to_rewrite(found, ordered=False, min_files=901) == []
    large = [partition(1, 40 * KiB * KiB, name=name) for name in "ab"]
    assert [len(pack) for pack in packs(large, ordered=True)] == [1, 1]
    assert [is_large(p) for p in (todo[0], large[0])] == [False, False]
    assert is_large(partition(2001, KiB))
    assert is_large(partition(2, 40 * KiB * KiB))


def test_files_next_to_each_other_go_into_bins_until_no_two_go_together() -> None:
    def found(*sizes: int) -> list[list[int]]:
        return [list(bin_) for bin_ in bins(sizes, 10)]

    assert found() == found(3) == found(6, 6, 6) == []
    assert found(3, 3, 3, 3) == [[0, 1, 2]]
    assert found(10, 3, 3, 9, 1, 1) == [[1, 2], [3, 4]]
    assert found(*[0] * 4001) == [list(range(4000))]
    assert count_bins([1, 1, 8, 1, 1, 8, 1, 1], 10) == 3
    assert count_bins([0] * 8001, 10) == 3  # the third puts together what two became
    assert count_bins([6, 6, 6], 10) == 0


@given(st.lists(st.integers(1, 12), max_size=40))
def test_bins_take_each_file_once_and_come_to_an_end(sizes: list[int]) -> None:
    chosen = [place for bin_ in bins(sizes, 12) for place in bin_]
    assert len(chosen) == len(set(chosen))
    assert all(len(b) > 1 and sum(sizes[b.start : b.stop]) <= 12 for b in bins(sizes, 12))
    assert count_bins(sizes, 12) < max(1, len(sizes))
