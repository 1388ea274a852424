"""Celery's pool of threads, whose main loop hears when one of them is free."""

from __future__ import annotations

from typing import Any

from celery.concurrency.thread import ApplyResult, TaskPool
from kombu.asynchronous import get_event_loop


class WakingPool(TaskPool):  # type: ignore[misc]
    """A pool of threads that wakes the main loop when a task has ended.

    While all threads are busy, ``worker_disable_prefetch`` keeps Celery from taking a message.
    It looks again when something wakes it: a timer, a second or more later, or this.
    See ``test_wake_ups_that_found_all_threads_busy_are_taken_as_soon_as_one_is_free``.
    """

    def on_apply(self, *args: Any, **kwargs: Any) -> ApplyResult:
        """Run a task in a thread."""
        result = super().on_apply(*args, **kwargs)
        # Not at the end of the task itself: Celery counts it as running until this.
        result.f.add_done_callback(_wake)
        return result


def _wake(_: object) -> None:
    hub = get_event_loop()
    if hub is not None:
        hub.call_soon(_nothing)  # type: ignore[no-untyped-call]


def _nothing() -> None:
    """Be called, so that the loop goes round."""
