"""Names and fair shares of jobs, on a real Spark."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from deltaq.worker.engines.spark_jobs import Jobs
from deltaq.worker.warm import WarmSpark

pytestmark = pytest.mark.timeout(300)

POOL, GROUP = "spark.scheduler.pool", "spark.jobGroup.id"


@pytest.fixture
def session(warm_spark: WarmSpark) -> Any:
    return warm_spark.session(timeout=240)


def here(session: Any) -> tuple[str | None, str | None]:
    """Tell pool and name of the jobs that this thread runs."""
    context = session.sparkContext
    return context.getLocalProperty(POOL), context.getLocalProperty(GROUP)


@contextmanager
def elsewhere(jobs: Jobs, session: Any, share: str) -> Iterator[str | None]:
    """Have another thread run jobs for the length of a block, and tell its pool."""
    pools: list[str | None] = []
    entered, leave = threading.Event(), threading.Event()

    def run() -> None:
        with jobs.run(session, f"job of {share}", share=share):
            pools.append(here(session)[0])
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=run)
    thread.start()
    assert entered.wait(60)
    try:
        yield pools[0]
    finally:
        leave.set()
        thread.join()


def test_a_thread_has_neither_name_nor_pool_of_what_it_did_before(session: Any) -> None:
    jobs = Jobs()

    with contextlib.suppress(ZeroDivisionError), jobs.run(session, "merge 1", share="prices"):
        assert here(session) == ("share 1", "merge 1")
        assert session.range(3).count() == 3
        raise ZeroDivisionError

    assert here(session) == (None, None)


def test_each_table_has_one_share_however_many_work_for_it(session: Any) -> None:
    jobs = Jobs()
    shares = ["prices", "trades", "prices"]

    with ExitStack() as stack:
        prices, trades, again = (
            stack.enter_context(elsewhere(jobs, session, share)) for share in shares
        )

        assert prices == again
        assert prices != trades


def test_there_are_no_more_pools_than_tables_that_were_worked_on_at_once(session: Any) -> None:
    jobs = Jobs()
    pools = set()
    for number in range(20):
        with jobs.run(session, "job", share=f"table {number}"):
            pools.add(here(session)[0])

    assert pools == {"share 1"}
