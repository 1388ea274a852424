"""Work handed to a thread that may fail, or hang."""

from __future__ import annotations

import logging
import threading

import pytest

from deltaq.worker import aside
from deltaq.worker.aside import Aside


def test_things_are_handled_in_order_and_a_failure_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handled: list[int] = []

    def handle(thing: int) -> None:
        if thing == 1:
            raise ZeroDivisionError
        handled.append(thing)

    work = Aside(handle, name="test")
    for thing in range(3):
        work.put(thing)
    work.close()
    assert handled == [0, 2]
    (record,) = caplog.records
    assert record.getMessage() == "test: one was left out"


def test_what_is_too_much_is_left_out_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside, "_ROOM", 3)
    begun, go_on = threading.Event(), threading.Event()
    handled: list[int] = []

    def handle(thing: int) -> None:
        begun.set()
        go_on.wait(20)
        handled.append(thing)

    work = Aside(handle, name="test")
    work.put(0)
    assert begun.wait(20)
    with caplog.at_level(logging.WARNING):
        for thing in range(1, 10):
            work.put(thing)
        go_on.set()
        work.close()
    assert handled == [0, 1, 2, 3]
    assert "6 were left out" in caplog.text


def test_closing_does_not_wait_for_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "_CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(aside, "_ROOM", 1)
    begun, never = threading.Event(), threading.Event()

    def handle(thing: int) -> None:
        begun.set()
        never.wait(20)

    work = Aside(handle, name="test")
    work.put(0)
    assert begun.wait(20)
    work.put(1)
    work.close()
    assert not never.is_set()
    never.set()
