"""What a program holds while a request is on its way."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import time
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from deltaq.client.condition import LightCondition
from deltaq.tasks.errors import OutcomeError, RequestCancelled, RequestExpired, ResultTimeout
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Lane

T = TypeVar("T")


class BaseFuture(Generic[T]):
    """What the futures of both clients have in common.

    Attributes:
        request_id: The request's id.
        table: The table it is about.
        operation: ``append``, ``merge``, ``read`` ...
        place: Lane and sequence of a request that is queued; None before and for a query.
    """

    request_id: str
    table: str
    operation: str
    place: tuple[Lane, int] | None = None
    #: By time.monotonic().
    made_at: float
    _settled_at: float | None = None

    def _describe(self, request_id: str, table: str, operation: str) -> None:
        self.request_id = request_id
        self.table = table
        self.operation = operation
        self.made_at = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since it was made, until it was done."""
        return (self._settled_at or time.monotonic()) - self.made_at

    @property
    def state(self) -> State | None:
        """Where the request stands, as far as it was heard; None for a query."""
        if not self.done():
            return None if self.place is None else State.QUEUED
        error = self.exception()
        if isinstance(error, RequestCancelled):
            return State.CANCELLED
        if isinstance(error, RequestExpired):
            return State.EXPIRED
        if error is not None:
            return State.FAILED
        result = self.result()
        return result.state if isinstance(result, Outcome) else None

    def done(self) -> bool:
        """Tell whether the outcome is there."""
        raise NotImplementedError

    def result(self) -> T:
        """Return the outcome of one that is done."""
        raise NotImplementedError

    def exception(self) -> BaseException | None:
        """Return the error of one that is done."""
        raise NotImplementedError

    # The client resolves it by these, from any thread.

    def _succeed(self, result: T) -> None:
        raise NotImplementedError

    def _fail(self, error: BaseException) -> None:
        raise NotImplementedError

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """Have something called with this future once it is done."""
        raise NotImplementedError

    def remove_done_callback(self, callback: Callable[[Any], Any]) -> int:
        """Forget a callback; return how often it was there."""
        raise NotImplementedError

    def cancel(self) -> Any:
        """Cancel the request if no worker has begun with it."""
        raise NotImplementedError

    def cancelled(self) -> bool:
        """Tell whether the request was cancelled.

        Examples:
            >>> future = await client.append("prices", frame)
            >>> future.cancelled()
            False
        """
        return self.done() and isinstance(self.exception(), RequestCancelled)

    def __repr__(self) -> str:
        what = f"{self.operation} on {self.table}" if self.table != "*" else self.operation
        return f"<{type(self).__name__} {what}: {self._standing()}, {self.request_id}>"

    def _standing(self) -> str:
        if not self.done():
            return f"{self.state or 'pending'} for {self.age:.1f} s"
        after = f"after {self.age:.1f} s"
        if error := self.exception():
            return f"{self.state or 'failed'} {after}, {type(error).__name__}: {error}"
        result = self.result()
        if isinstance(result, Outcome) and result.version is not None:
            return f"{result.state} in version {result.version} {after}"
        return f"{self.state or 'done'} {after}"

    def _timed_out(self, timeout: float | None, *, query: bool) -> ResultTimeout:
        what = f"{self.operation} {self.request_id} on table {self.table} within {timeout:g} s"
        if query:
            # Queries of no table, or of several, have the star for one.
            about = "" if self.table == "*" else f" of table {self.table}"
            message = (
                f"no answer to {self.operation}{about} within {timeout:g} s: does a worker run that "
                "serves reads?"
            )
        else:
            message = (
                f"no outcome of {what}; it goes on: call result() again, or ask with "
                f"client.outcome({self.table!r}, {self.request_id!r})"
            )
        return ResultTimeout(message, request_id=self.request_id, table=self.table)


class Future(concurrent.futures.Future[T], BaseFuture[T]):
    """The future of one request or query. Made by the methods of a client.

    It works with ``concurrent.futures.wait`` and ``as_completed``, and can be awaited.
    Callbacks run on the client's listening thread, which hears nothing meanwhile: keep them
    short.

    Attributes:
        request_id: The request's id.
        table: The table it is about.
        operation: ``append``, ``merge``, ``read`` ...
        place: Lane and sequence of a request that is queued; None before and for a query.

    Examples:
        >>> future = client.append("prices", frame, request_id="order-19")
        >>> future.operation, future.table, future.request_id
        ('append', 'prices', 'order-19')
        >>> future.result(timeout=30).state
        <State.COMMITTED: 'committed'>
    """

    def __init__(
        self,
        *,
        request_id: str,
        table: str,
        operation: str,
        cancel: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        self._condition = LightCondition()  # type: ignore[assignment]
        self._describe(request_id, table, operation)
        self._cancel = cancel
        self._process = os.getpid()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the outcome and return it.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            ResultTimeout: The time is over; the request goes on, and so may the wait.
            RequestCancelled: It was cancelled while queued; nothing was written.
            RequestExpired: It was not begun before it expired; nothing was written.
            RequestError: It failed, with the type that says why; nothing was written.
            OutcomeError: It cannot be told any more what came of it.

        Examples:
            >>> future = client.append("prices", frame)
            >>> future.result(timeout=30).version
            1
        """
        self._check_process()
        try:
            return super().result(timeout)
        except TimeoutError:
            if self.done():
                return super().result()  # it came, or what came is a timeout itself
            raise self._timed_out(timeout, query=self._cancel is None) from None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the outcome and return its error, None if it has none.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            ResultTimeout: The time is over; the request goes on.

        Examples:
            >>> future = client.append("prices", pd.DataFrame({"price": ["cheap"]}))
            >>> future.exception(timeout=30).code
            'schema_mismatch'
        """
        self._check_process()
        try:
            return super().exception(timeout)
        except TimeoutError:
            if self.done():
                return super().exception()
            raise self._timed_out(timeout, query=self._cancel is None) from None

    def cancel(self) -> bool:
        """Cancel the request if no worker has begun with it.

        Returns:
            True if it is certain that the request is not and will not be applied. False if a
            worker has begun with it and goes on, or it is settled; the outcome tells. A query
            cannot be cancelled.

        Raises:
            QueueUnavailable: Redis did not answer.

        Examples:
            >>> future = client.append("prices", frame)
            >>> outcome = future.result(timeout=30)
            >>> future.cancel()  # too late
            False
        """
        cancel = self._cancel
        if self.done() or cancel is None:
            return self.cancelled()
        return cancel()

    def cancelled(self) -> bool:
        """Tell whether the request was cancelled.

        Examples:
            >>> future = client.append("prices", frame)
            >>> future.cancelled()
            False
        """
        return self.done() and isinstance(super().exception(), RequestCancelled)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait in an event loop. Giving up the wait does not cancel the request."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(_finish, waiter)

        self._check_process()
        self.add_done_callback(wake)
        try:
            yield from waiter
        finally:  # a program may give up and wait anew many times
            self.remove_done_callback(wake)
        return self.result()

    def remove_done_callback(self, callback: Callable[[Any], Any]) -> int:
        """Forget a callback; return how often it was there.

        Examples:
            >>> future = client.append("prices", frame)
            >>> future.add_done_callback(repr)
            >>> future.remove_done_callback(repr) in (0, 1)  # 0 when it was called already
            True
        """
        with self._condition:
            own = vars(self)  # of the base class
            known: list[Any] = own["_done_callbacks"]
            # Another list: the base class may be going through this one without the lock.
            own["_done_callbacks"] = [one for one in known if one != callback]
            return len(known) - len(own["_done_callbacks"])

    __repr__ = BaseFuture.__repr__

    def _succeed(self, result: T) -> None:
        self._settled_at = time.monotonic()
        self.set_result(result)
        self._cancel = None  # it holds the request, which is as large as the outcome

    def _fail(self, error: BaseException) -> None:
        self._settled_at = time.monotonic()
        self.set_exception(error)
        self._cancel = None

    def _check_process(self) -> None:
        if self._process != os.getpid() and not self.done():
            raise OutcomeError(
                f"this future belongs to process {self._process}, where its outcome will be "
                f"heard; here, ask with client.outcome({self.table!r}, {self.request_id!r})",
                request_id=self.request_id,
                table=self.table,
            )


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
