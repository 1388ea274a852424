"""Many futures at once: gathered, as completed, and how far they are."""

from __future__ import annotations

import asyncio
import io
import threading
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from deltaq.client import (
    AsyncClient,
    Client,
    DuplicateKeys,
    Future,
    InvalidRequest,
    Outcome,
    ResultTimeout,
    SchemaMismatch,
    as_completed,
    gather,
)
from deltaq.client.display import Bar, Lines, as_html, make_display
from deltaq.client.progress import Counts
from deltaq.tasks.settings import Settings
from tests.support.player import Player
from tests.support.waiting import wait_until

ROWS = pa.table({"n": [1, 2]})


def counts(**fields: Any) -> Counts:
    zero = {"queued": 0, "committing": 0, "committed": 0, "failed": 0, "rows": 0, "seconds": 2.0}
    return Counts(**{**zero, **fields})


def test_gather_returns_results_in_the_order_of_the_futures(client: Client, player: Player) -> None:
    futures = [client.append(f"t{n}", ROWS) for n in range(3)]
    for table in ("t2", "t0", "t1"):
        player.commit_all(table)
    assert [outcome.table for outcome in gather(futures, timeout=10)] == ["t0", "t1", "t2"]
    assert gather([]) == []


def test_gather_raises_the_first_error_without_waiting_for_the_others(
    client: Client, player: Player
) -> None:
    futures = [client.append("t0", ROWS), client.append("t1", ROWS)]
    player.commit_all("t1", error=SchemaMismatch("no column n"))
    with pytest.raises(SchemaMismatch, match="no column n"):
        gather(futures, timeout=10)
    assert not futures[0].done()


def test_who_waits_too_long_is_told_how_many_are_open(client: Client, player: Player) -> None:
    futures = [client.append("t0", ROWS), client.append("t1", ROWS)]
    player.commit_all("t0")
    futures[0].result(timeout=10)
    with pytest.raises(ResultTimeout, match="1 of 2 futures have no outcome"):
        gather(futures, timeout=0.01)
    earliest = as_completed(futures, timeout=0.01)
    assert next(earliest) is futures[0]
    with pytest.raises(ResultTimeout, match="1 of 2 futures"):
        next(earliest)
    with pytest.raises(ResultTimeout, match="1 of 2 done"):
        client.progress(futures, file=io.StringIO()).wait(timeout=0.01)
    with pytest.raises(InvalidRequest, match=r"asyncio\.gather"):
        gather(["prices"])  # type: ignore[arg-type]


def test_as_completed_yields_each_future_once_those_first_that_are_done_first(
    client: Client, player: Player
) -> None:
    futures = [client.append(f"t{n}", ROWS) for n in range(3)]
    player.commit_all("t1")
    futures[1].result(timeout=10)
    earliest = as_completed([*futures, futures[1]], timeout=10)
    assert next(earliest) is futures[1]
    player.commit_all("t0")
    player.commit_all("t2")
    assert {future.table for future in earliest} == {"t0", "t2"}


def test_progress_hands_out_futures_as_they_are_done_and_counts_them(
    client: Client, player: Player
) -> None:
    futures = [client.append(table, ROWS) for table in ("t0", "t0", "t1", "t2")]
    player.commit_all("t0")
    player.commit_all("t1", error=DuplicateKeys("twice"))
    said = io.StringIO()
    followed = iter(client.progress(futures, file=said))
    assert {next(followed).table for _ in range(3)} == {"t0", "t1"}
    player.commit_all("t2")
    assert [future.table for future in followed] == ["t2"]
    assert said.getvalue().splitlines()[-1].startswith("4 of 4 done, 3 committed, 1 failed")
    found = client.progress(futures, file=said).wait(timeout=10)
    assert (found.committed, found.failed, found.done, found.total) == (3, 1, 4, 4)


def test_progress_tells_what_a_worker_has_begun_with_from_what_is_queued(
    client: Client, player: Player
) -> None:
    begun = [client.append("t0", ROWS) for _ in range(3)]
    player.claim_all("t0")
    waiting = [client.append("t0", ROWS), client.append("t1", ROWS)]
    said = io.StringIO()
    thread = threading.Thread(
        target=lambda: client.progress([*begun, *waiting], file=said).wait(timeout=30)
    )
    thread.start()
    wait_until(lambda: "2 queued, 3 committing" in said.getvalue(), saying=said.getvalue)
    player.commit_all("t0")
    player.commit_all("t1")
    thread.join(10)
    assert said.getvalue().splitlines()[-1].startswith("5 of 5 done, 5 committed")


def test_progress_in_an_event_loop(settings: Settings, player: Player) -> None:
    async def main() -> None:
        async with AsyncClient(settings) as client:
            futures = [await client.append("t0", ROWS) for _ in range(3)]
            player.commit_all("t0")
            said = io.StringIO()
            followed = [future async for future in client.progress(futures, file=said)]
            assert set(followed) == set(futures)
            assert (await client.progress(futures, file=said).wait(10)).committed == 3
            assert "3 of 3 done, 3 committed" in said.getvalue()

    asyncio.run(main())


def test_a_progress_that_is_given_up_leaves_no_callback(client: Client, player: Player) -> None:
    futures = [client.append("t0", ROWS), client.append("t1", ROWS)]
    player.commit_all("t0")
    for _ in client.progress(futures, file=io.StringIO()):
        break
    wait_until(lambda: not vars(futures[1])["_done_callbacks"])


def test_counts_tell_the_rate_and_the_time_left() -> None:
    found = counts(queued=5, committing=1, committed=1, failed=1, rows=10_000)
    assert (found.rows_per_second, found.seconds_left) == (5000.0, 6.0)
    assert str(found) == (
        "2 of 8 done, 5 queued, 1 committing, 1 committed, 1 failed, 5,000 rows/s, 6 s left"
    )
    assert (counts().seconds_left, str(counts())) == (None, "0 of 0 done")


def test_counts_are_a_bar_on_a_terminal_html_in_a_notebook_and_lines_elsewhere() -> None:
    half = counts(queued=1, committed=1)
    terminal = io.StringIO()
    bar = Bar(Console(file=terminal, force_terminal=True, width=100))
    bar.show(half)
    bar.end(counts(committed=2))
    assert "━" in terminal.getvalue()
    assert "2 of 2 done" in terminal.getvalue()
    assert as_html(half).startswith('<progress value="1" max="2"></progress> 1 of 2 done')
    log = io.StringIO()
    lines = make_display(log)
    assert isinstance(lines, Lines)
    for _ in range(100):  # a log is not filled with them
        lines.show(half)
    lines.end(counts(committed=2))
    assert log.getvalue().splitlines() == [str(half), "2 of 2 done, 2 committed"]


def test_a_future_tells_its_operation_table_state_and_age(client: Client, player: Player) -> None:
    future: Future[Outcome] = client.append("t0", ROWS)
    assert repr(future).startswith("<Future append on t0: queued for ")
    assert repr(future).endswith(f" s, {future.request_id}>")
    failed = client.append("t1", ROWS)
    cancelled = client.append("t2", ROWS)
    cancelled.cancel()
    player.commit_all("t0")
    player.commit_all("t1", error=SchemaMismatch("no column n"))
    gather([future], timeout=10)
    failed.exception(timeout=10)
    assert " committed in version 7 after " in repr(future)
    assert " failed after " in repr(failed)
    assert "SchemaMismatch: no column n, " in repr(failed)
    assert " cancelled after " in repr(cancelled)
    assert future.age < 60
    assert future.age == future.age  # it stands still
    query = client.read("t0")
    assert repr(query).startswith("<Future read on t0: pending for ")
