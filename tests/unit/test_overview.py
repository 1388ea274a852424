"""The screen of ``deltaq top``, drawn from looks made by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest

from deltaq.client.look import Look
from deltaq.client.overview import Order, draw, duration, shortened, told_of_workers
from deltaq.tasks.request import Lane
from deltaq.tasks.status import LaneStatus, Retrying, TableStatus
from deltaq.tasks.workers import LOST_AFTER, WorkerFacts, WorkerStatus

MiB = 1 << 20


def table(
    name: str, requests: int = 1, age: float = 1.0, error: str | None = None, **more: Any
) -> TableStatus:
    """A table whose requests wait in the live lane."""
    retrying = error and Retrying(error=error, tries=3, since_seconds=9, next_seconds=5)
    lanes = {Lane.LIVE: LaneStatus(requests=requests, size_bytes=MiB, oldest_seconds=age)}
    return TableStatus(
        **{"table": name, "lanes": lanes, "holder": None, "retrying": retrying or None, **more}
    )


def worker(name: str, silent: float = 0.5, **facts: Any) -> WorkerStatus:
    return WorkerStatus(facts=WorkerFacts(name=name, **facts), silent_seconds=silent)


def lines_of(look: Look, *, width: int = 80, height: int = 24, by: Order = Order.AGE) -> list[str]:
    return draw(look, width=width, height=height, order=by, keys="q quit").plain.split("\n")


def order_of(look: Look, by: Order) -> str:
    names = [line.split()[0] for line in lines_of(look, by=by) if line[:2] in ("a ", "b ", "c ")]
    return "".join(names)


def test_the_totals_come_first() -> None:
    bulk = {Lane.BULK: LaneStatus(requests=1500, size_bytes=3 * MiB, oldest_seconds=75)}
    look = Look(
        tables=[table("a", 20), table("b", lanes=bulk)],
        idle_tables=998,
        rates={"a": 120.4, "b": 30},
        settled_per_second=150.4,
        commits_per_second=12.4,
        workers=[
            worker("w1", slots=4, busy=3, spark="ready", memory_bytes=300 * MiB),
            worker("w2", slots=4, spark="starting", jvm_memory_bytes=900 * MiB),
        ],
        dead_letters=2,
    )

    assert lines_of(look)[:6] == [
        "queue    1,520 requests, 2 of 1,000 tables, 4.0 MiB, oldest 75.0 s,",
        "         150 done/s in 12 commits/s",
        "workers  2 alive, 3 of 8 slots busy, Spark ready on 1, Spark starting on 1,",
        "         1,200 MiB",
        "dead     2 requests given up, see deltaq dead-letters",
        "",
    ]


def test_no_worker_and_lost_workers_are_told_by_name() -> None:
    look = Look(workers=[worker(f"w{n}@host", silent=LOST_AFTER + n) for n in range(1, 6)])

    (told,) = told_of_workers(look.workers)
    assert told.startswith("no worker is alive; lost: w1@host silent for 7.0 s; lost: w2@host ")
    assert lines_of(look)[1:4] == [
        "workers  none alive",
        "lost     5, w1@host silent for 7.0 s, w2@host silent for 8.0 s,",
        "         w3@host silent for 9.0 s, 2 more",
    ]


def test_a_worker_that_is_not_ready_tells_why() -> None:
    look = Look(workers=[worker("w1", problems={"lake": "no space left on device"})])

    assert "problem  w1: no space left on device" in lines_of(look)
    assert told_of_workers(look.workers) == ["1 worker alive", "w1: no space left on device"]


def test_tables_are_ordered_by_what_was_asked_for() -> None:
    tables = [table("a", 10, age=2), table("b", 30, age=1), table("c", 20, age=3)]
    look = Look(tables=tables, rates={"a": 9, "c": 1})

    assert order_of(look, Order.AGE) == "cab"
    assert order_of(look, Order.DEPTH) == "bca"
    assert order_of(look, Order.RATE) == "acb"


def test_tables_that_fail_come_before_older_ones() -> None:
    look = Look(tables=[table("a", age=30), table("b", age=1, error="full"), table("c", age=40)])

    assert order_of(look, Order.AGE) == "bca"


def test_a_long_problem_goes_on_in_the_next_line() -> None:
    problem = "12 bytes are free on its disk (limit: staging_min_free_bytes=268435456); make room"

    lines = lines_of(Look(workers=[worker("deltaq-1@web-0", problems={"lake": problem})]))

    assert lines[2:4] == [
        "problem  deltaq-1@web-0: 12 bytes are free on its disk (limit:",
        "         staging_min_free_bytes=268435456); make room",
    ]


def test_what_has_no_room_is_counted() -> None:
    tables = [table(f"t{n}", requests=2, age=n) for n in range(30)]

    assert lines_of(Look(tables=tables[:3], idle_tables=953))[-2] == "and 953 more, all idle"
    crowded = lines_of(Look(tables=tables, idle_tables=953), height=14)
    assert len(crowded) == 14
    assert crowded[-2] == "and 976 more, 23 of them with 46 requests"


def test_an_error_has_a_line_of_its_own_and_ends_with_a_whole_word() -> None:
    failing = table("prices", error="no space left on device " * 5)

    told = lines_of(Look(tables=[failing]))[-3]

    assert told == (
        "  failed 3 times, tried again in 5.0 s: no space left on device no space left..."
    )
    assert len(told) <= 80
    assert "failing  1 table cannot go on: tried again and again" in lines_of(
        Look(tables=[failing])
    )


def test_long_names_are_cut_in_the_middle_and_numbers_never() -> None:
    long = table("a" * 60 + "_end", requests=123_456, holder="deltaq-1@" + "h" * 60 + ".net")

    heading, row = lines_of(Look(tables=[long]))[-4:-2]

    assert len(row) <= 80
    assert row.startswith("aaaaa")
    assert row.split()[0].endswith("_end")
    assert " 123,456 " in row
    assert row.endswith(".net")
    assert heading.split() == ["table", "waiting", "oldest", "MiB", "done/s", "held", "by"]


def test_lanes_have_columns_where_there_is_room() -> None:
    heading = lines_of(Look(tables=[table("prices", 7)]), width=200)[-4]
    assert re.split(" {2,}", heading) == [
        *("table", "live", "bulk", "maint.", "oldest", "MiB", "done/s", "held by")
    ]


def test_a_redis_that_does_not_answer_is_all_there_is_to_see() -> None:
    problem = "Redis cannot be reached: " + "words that go on " * 10

    lines = lines_of(Look(problem=problem))

    assert " ".join(lines[:-1]).split() == problem.split()
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "q quit"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.04, "0.0 s"), (99, "99.0 s"), (600, "10 min"), (7200, "2 h"), (864_000, "10 d")],
)
def test_durations_are_short(seconds: float, told: str) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("text", "width", "told"),
    [
        ("two\n words", 9, "two words"),
        ("two words", 8, "two..."),
        ("one twowords", 9, "one..."),
        ("one two three", 10, "one two..."),
        ("oneverylongword", 9, "onever..."),
    ],
)
def test_a_shortened_text_ends_with_a_whole_word(text: str, width: int, told: str) -> None:
    assert shortened(text, width) == told
