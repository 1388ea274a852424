"""Futures that wait, and what each kind does when news of it comes or fails to come."""

from __future__ import annotations

import concurrent.futures
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

from deltaq.client.future import BaseFuture
from deltaq.tasks.errors import (
    DeltaqError,
    OutcomeExpired,
    QueueUnavailable,
    RequestCancelled,
    RequestExpired,
)
from deltaq.tasks.outcome import Outcome, State

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Makes the result of a query from its answer, and cleans up once the program has been told.
Load = Callable[[Outcome], AbstractContextManager[T]]

#: A query without an answer is asked again after this many seconds, then twice as many ...
_ASK_AGAIN = 10.0
#: ... but at least this often.
_ASK_AGAIN_MOST = 300.0


class Pending(Protocol):
    """A future that waits for its outcome."""

    @property
    def future(self) -> BaseFuture[Any]:
        """What the program holds."""
        ...

    @property
    def known(self) -> bool:
        """Whether Redis may be asked what came of it.

        Before a request is accepted its id may be that of another one.
        """
        ...

    def settle(self, outcome: Outcome) -> None:
        """Resolve the future; called once."""
        ...

    def queued(self) -> None:
        """Note that Redis knows the request and has no outcome yet."""

    def unknown(self) -> DeltaqError | None:
        """Act on Redis not knowing it; return an error if no outcome can come any more."""
        ...


class PendingRequest:
    """A request that waits for its commit.

    Args:
        future: What the program holds.
        keep: How long Redis keeps an outcome, seconds.
    """

    __slots__ = ("_keep", "_queued_at", "future")

    def __init__(self, future: BaseFuture[Outcome], *, keep: float) -> None:
        self.future = future
        self._keep = keep
        self._queued_at: float | None = None  # not before it is accepted

    @property
    def known(self) -> bool:
        """Whether it is accepted."""
        return self._queued_at is not None

    def settle(self, outcome: Outcome) -> None:
        """Resolve the future."""
        error = error_of(outcome)
        if error:
            self.future._fail(error)
        else:
            self.future._succeed(outcome)

    def queued(self) -> None:
        """Note that Redis knows the request."""
        self._queued_at = time.monotonic()

    def unknown(self) -> DeltaqError | None:
        """Tell whether its outcome has expired.

        It has only if a whole lifetime of outcomes passed since Redis last had it. If not,
        Redis lost it, and the workers' recovery brings it back from the staging area.
        """
        if self._queued_at is None or time.monotonic() - self._queued_at <= self._keep:
            return None
        future = self.future
        return OutcomeExpired(
            f"Redis no longer knows {future.operation} {future.request_id} on table "
            f"{future.table}: its outcome was kept for {self._keep:g} s and not heard; the "
            "table's history tells whether it was committed",
            request_id=future.request_id,
            table=future.table,
        )


class PendingQuery(Generic[T]):
    """A query that waits for its answer. Its message may vanish, so it is asked again.

    Args:
        future: What the program holds.
        load: Makes the result from the answer; it may read files.
        ask: Sends the query.
        helpers: Runs both, so that the listening thread never waits for them.
    """

    def __init__(
        self,
        future: BaseFuture[T],
        *,
        load: Load[T],
        ask: Callable[[], None],
        helpers: concurrent.futures.Executor,
    ) -> None:
        self.future = future
        self._load = load
        self._ask = ask
        self._helpers = helpers
        self._pause = _ASK_AGAIN
        self._ask_at = time.monotonic() + _ASK_AGAIN

    @property
    def known(self) -> bool:
        """Be true: nobody else has a query's id."""
        return True

    def settle(self, outcome: Outcome) -> None:
        """Resolve the future, or have it done when files must be read."""
        error = error_of(outcome)
        if error:
            self.future._fail(error)
        else:
            self._helpers.submit(self._finish, outcome)

    def _finish(self, outcome: Outcome) -> None:
        told = False
        try:
            with self._load(outcome) as result:
                self.future._succeed(result)
                told = True
        except Exception as exc:
            if not told:
                self.future._fail(exc)
            else:  # workers remove it after read_ttl
                logger.warning("the result of query %s stays: %s", outcome.request_id, exc)

    def queued(self) -> None:
        """Do nothing: a query is in no inbox."""

    def unknown(self) -> None:
        """Ask again when it is time."""
        now = time.monotonic()
        if now >= self._ask_at:
            self._pause = min(2 * self._pause, _ASK_AGAIN_MOST)
            self._ask_at = now + self._pause
            self._helpers.submit(self._ask_again)

    def _ask_again(self) -> None:
        try:
            self._ask()
        except QueueUnavailable as exc:
            logger.warning("query %s not sent again: %s", self.future.request_id, exc)


#: What callers get of requests that were never applied.
_UNAPPLIED: dict[State, tuple[type[DeltaqError], str]] = {
    State.CANCELLED: (RequestCancelled, "was cancelled while it was queued"),
    State.EXPIRED: (RequestExpired, "was not begun before it expired"),
}


def error_of(outcome: Outcome) -> DeltaqError | None:
    """Make the error that a final outcome is to whoever waits for it; None if it is committed."""
    if outcome.state not in _UNAPPLIED:
        return outcome.as_error()
    kind, what = _UNAPPLIED[outcome.state]
    return kind(
        f"{outcome.operation} {outcome.request_id} on table {outcome.table} {what}; nothing was "
        "written",
        request_id=outcome.request_id,
        table=outcome.table,
    )
