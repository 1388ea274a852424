"""What a program in an event loop holds while a request is on its way."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from deltaq.client.future import BaseFuture
from deltaq.tasks.errors import OutcomeError

T = TypeVar("T")

_Callback = Callable[["AsyncFuture[Any]"], object]


class AsyncFuture(BaseFuture[T]):
    """The future of one request. Made by the methods of an AsyncClient.

    Await it for the outcome, as often as you like. It works with ``asyncio.gather``, ``wait``,
    ``wait_for`` and ``as_completed``. A task that waits may be cancelled: that ends the wait,
    never the request, which :meth:`cancel` does.

    Attributes:
        request_id: The request's id.
        table: The table it is about.
        operation: ``append``, ``merge``, ``read`` ...
        place: Lane and sequence of a request that is queued; None for a query.

    Examples:
        >>> futures = [await client.append("prices", frame) for _ in range(3)]
        >>> outcomes = await asyncio.gather(*futures)
        >>> sum(outcome.inserted for outcome in outcomes)
        6
    """

    def __init__(
        self,
        *,
        request_id: str,
        table: str,
        operation: str,
        loop: asyncio.AbstractEventLoop,
        cancel: Callable[[], Coroutine[Any, Any, bool]] | None = None,
    ) -> None:
        self._describe(request_id, table, operation)
        self._loop = loop
        self._cancel = cancel
        self._callbacks: list[tuple[_Callback, contextvars.Context]] | None = []  # None when done
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Tell whether the outcome is there.

        Examples:
            >>> future = await client.append("prices", frame)
            >>> outcome = await future
            >>> future.done()
            True
        """
        return self._callbacks is None

    def result(self) -> T:
        """Return the outcome, or raise the typed error, of one that is done.

        Raises:
            OutcomeError: It is not done: await it.
            RequestCancelled: It was cancelled while queued; nothing was written.
            RequestExpired: It was not begun before it expired; nothing was written.
            RequestError: It failed, with the type that says why; nothing was written.

        Examples:
            >>> future = await client.append("prices", frame)
            >>> await future is future.result()
            True
        """
        self._require_done()
        if self._error is not None:
            raise self._error
        result: T = self._result
        return result

    def exception(self) -> BaseException | None:
        """Return the error of one that is done, None if it has none.

        Raises:
            OutcomeError: It is not done: await it.

        Examples:
            >>> future = await client.append("prices", pd.DataFrame({"price": ["cheap"]}))
            >>> done, _ = await asyncio.wait([asyncio.ensure_future(future)])
            >>> future.exception().code
            'schema_mismatch'
        """
        self._require_done()
        return self._error

    async def cancel(self) -> bool:
        """Cancel the request if no worker has begun with it.

        Returns:
            True if it is certain that the request is not and will not be applied. False if a
            worker has begun with it and goes on, or it is settled; the outcome tells.

        Raises:
            QueueUnavailable: Redis did not answer.

        Examples:
            >>> future = await client.append("prices", frame)
            >>> outcome = await future
            >>> await future.cancel()  # too late
            False
        """
        cancel = self._cancel
        if self.done() or cancel is None:
            return self.cancelled()
        return await cancel()

    def add_done_callback(
        self, callback: _Callback, *, context: contextvars.Context | None = None
    ) -> None:
        """Have the loop call something with this future once it is done.

        Args:
            callback: What to call; it is to be short.
            context: In which context; by default that of now.

        Examples:
            >>> future = await client.append("prices", frame)
            >>> future.add_done_callback(lambda future: print(future.result().state))
            >>> outcome = await future
            committed
        """
        if self._callbacks is None:
            self._loop.call_soon(callback, self, context=context)
        else:
            self._callbacks.append((callback, context or contextvars.copy_context()))

    def remove_done_callback(self, callback: _Callback) -> int:
        """Forget a callback; return how often it was there.

        Examples:
            >>> future = await client.append("prices", frame)
            >>> future.add_done_callback(repr)
            >>> future.remove_done_callback(repr)
            1
        """
        if self._callbacks is None:
            return 0
        before = len(self._callbacks)
        self._callbacks = [known for known in self._callbacks if known[0] != callback]
        return before - len(self._callbacks)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the outcome."""
        if self._callbacks is not None:
            if asyncio.get_running_loop() is not self._loop:
                raise OutcomeError(
                    "this future belongs to another event loop; here, ask with "
                    f"client.outcome({self.table!r}, {self.request_id!r})",
                    request_id=self.request_id,
                    table=self.table,
                )
            waiter = self._loop.create_future()

            def wake(_: object) -> None:
                if not waiter.done():
                    waiter.set_result(None)

            self.add_done_callback(wake)
            try:
                yield from waiter
            finally:  # a task may give up and wait anew many times
                self.remove_done_callback(wake)
        return self.result()

    def _succeed(self, result: T) -> None:
        self._in_loop(result, None)

    def _fail(self, error: BaseException) -> None:
        self._in_loop(None, error)

    def _in_loop(self, result: Any, error: BaseException | None) -> None:
        if asyncio._get_running_loop() is self._loop:
            self._resolve(result, error)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._resolve, result, error)

    def _resolve(self, result: Any, error: BaseException | None) -> None:
        callbacks, self._callbacks = self._callbacks, None
        if callbacks is None:
            return  # the first word counts, as of an outcome that is heard and looked up
        self._result, self._error = result, error
        self._settled_at = time.monotonic()
        self._cancel = None  # it holds the request, which is as large as the outcome
        for callback, context in callbacks:
            self._loop.call_soon(callback, self, context=context)

    def _require_done(self) -> None:
        if self._callbacks is not None:
            raise OutcomeError(
                f"{self!r} is not done: await it, or ask done() first",
                request_id=self.request_id,
                table=self.table,
            )
