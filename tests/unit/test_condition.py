"""Futures with a light condition behave as those of concurrent.futures."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, as_completed, wait

import pytest

from deltaq.client.condition import LightCondition
from deltaq.client.future import Future


def make_future(number: int = 0) -> Future[int]:
    return Future(request_id=f"r{number}", table="t", operation="append")


def test_all_threads_that_wait_for_one_future_hear_of_it() -> None:
    future = make_future()
    waiting = threading.Barrier(9)

    def ask(_: int) -> int:
        waiting.wait(10)
        return future.result(10)

    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(ask, range(8))
        waiting.wait(10)
        future.set_result(42)

        assert list(answers) == [42] * 8


def test_wait_and_as_completed_see_futures_end_in_other_threads() -> None:
    futures = [make_future(n) for n in range(50)]

    def end() -> None:
        for number, future in enumerate(futures):
            future.set_result(number)

    thread = threading.Thread(target=end)
    thread.start()
    first, _ = wait(futures, timeout=10, return_when=FIRST_COMPLETED)
    assert first
    assert {f.result() for f in as_completed(futures, timeout=10)} == set(range(50))
    thread.join()


def test_a_wait_that_is_too_short_says_so_and_the_next_one_succeeds() -> None:
    condition = LightCondition()

    with condition:
        assert not condition.wait(0)
    thread = threading.Thread(target=_notify, args=(condition,))
    with condition:
        thread.start()
        assert condition.wait(10)
    thread.join()


def _notify(condition: LightCondition) -> None:
    with condition:
        condition.notify_all()


def test_a_future_nobody_waits_for_has_no_queue_of_waiters() -> None:
    future = make_future()
    future.set_result(1)

    assert future.result() == 1
    condition = future._condition
    assert isinstance(condition, LightCondition)
    assert condition._waited_for is None
    assert sys.getsizeof(condition) < 100


def test_notifying_without_the_lock_is_refused_once_somebody_waited() -> None:
    condition = LightCondition()
    with condition:
        condition.wait(0)

    with pytest.raises(RuntimeError):
        condition.notify_all()
