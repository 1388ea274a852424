from __future__ import annotations

import threading
import time

import pytest

from deltaq.tasks.policy import CLIENT_ID
from deltaq.tasks.request import Lane, Optimize, Request
from deltaq.worker.groups import CommitGroup, Waiting
from deltaq.worker.maintenance.pacing import Pacing
from tests.support.requests import make_append, make_request


def asked(table: str = "t", *, by_policy: bool = False, lane: Lane = Lane.MAINTENANCE) -> Request:
    client_id = CLIENT_ID if by_policy else "c" * 32
    return make_request(Optimize, table, lane=lane, client_id=client_id)


def written(pacing: Pacing, table: str = "t") -> None:
    members = (Waiting(sequence=1, request=make_append(table)),)
    pacing.note(CommitGroup(table=table, lane=Lane.LIVE, app_id="", members=members))


def work(pacing: Pacing, request: Request) -> bool:
    """Do a slice of a few milliseconds; False if it may not begin."""
    with pacing.slice(request) as may_begin:
        if may_begin:
            time.sleep(0.005)
    return may_begin


def test_a_table_that_nobody_writes_to_does_not_rest() -> None:
    pacing = Pacing(0.001)
    written(pacing, "other")
    assert work(pacing, asked())
    assert not pacing.rests("t")
    assert work(pacing, asked())


def test_a_table_that_is_written_to_rests_after_a_slice() -> None:
    pacing = Pacing(0.001)
    written(pacing)
    assert work(pacing, asked())
    assert pacing.rests("t")
    assert not pacing.rests("other")


def test_what_policies_ask_for_leaves_the_worker_its_time_whatever_the_table() -> None:
    pacing = Pacing(0.001)
    assert work(pacing, asked(by_policy=True))
    assert not work(pacing, asked("other", by_policy=True))
    assert pacing.rests("other")
    # Whoever asked waits for nobody's budget.
    assert work(pacing, asked("third"))


def test_one_slice_at_a_time_runs_in_a_worker_except_in_other_lanes() -> None:
    pacing = Pacing(1)
    with pacing.slice(asked()) as first:
        assert first
        assert not work(pacing, asked("other"))
        assert pacing.rests("other")
        assert work(pacing, asked("third", lane=Lane.LIVE))
        assert work(pacing, make_append("third"))


def test_an_error_in_a_slice_lets_the_next_one_begin() -> None:
    pacing = Pacing(1)
    with pytest.raises(ZeroDivisionError), pacing.slice(asked()):
        raise ZeroDivisionError
    done = list[bool]()
    thread = threading.Thread(target=lambda: done.append(work(pacing, asked())))
    thread.start()
    thread.join()
    assert done == [True]
