"""The client for programs with an event loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TextIO, TypeVar, cast

from deltaq.client.async_core import AsyncCore
from deltaq.client.async_future import AsyncFuture
from deltaq.client.awaited import awaited, awaited_to_the_end, awaited_twice, iterated
from deltaq.client.backfill_future import AsyncBackfillFuture, BackfillFuture
from deltaq.client.client import Client, settings_of
from deltaq.client.dead_letters import DeadLetter
from deltaq.client.future import Future
from deltaq.client.looping import Looping
from deltaq.client.pace import Pace
from deltaq.client.redrive import redrive
from deltaq.client.scan import AsyncScan
from deltaq.client.watch import AsyncWatch
from deltaq.tasks.outcome import Outcome

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.client.progress import AsyncProgress
    from deltaq.tasks.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K")


def _asking(
    method: Callable[Concatenate[Client, P], T], result: str = ""
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """Make a method of :class:`Client` awaitable: over this core, what it calls is a coroutine."""

    @wraps(method)
    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if turn := self._pace.begin():
            await turn
        return await cast("Coroutine[Any, Any, T]", method(self, *args, **kwargs))

    call.__doc__ = awaited(method.__doc__)
    if result:
        signature = inspect.signature(method)
        call.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]
    return call


def _submitting(
    method: Callable[Concatenate[Client, P], Future[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, AsyncFuture[T]]]:
    call = _asking(method, "AsyncFuture[Outcome]")
    call.__doc__ = awaited_twice(method.__doc__)
    return cast("Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, AsyncFuture[T]]]", call)


def _reading(
    method: Callable[Concatenate[Client, P], Future[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """Make a method awaitable, and wait for the future it returns, too."""
    ask = _submitting(method)

    @wraps(method)
    async def call(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        future = await ask(self, *args, **kwargs)
        try:
            return await future
        finally:
            self._core.discard(future)

    call.__doc__ = awaited_to_the_end(method.__doc__)
    signature = inspect.signature(method)
    call.__signature__ = signature.replace(return_annotation="pa.Table")  # type: ignore[attr-defined]
    return call


def _opening(
    method: Callable[Concatenate[Client, P], Any], kind: type[K]
) -> Callable[Concatenate[AsyncClient, P], K]:
    """Make a method return what is taken by ``async for``; it is not awaited itself."""

    @wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> K:
        return cast("K", method(self, *args, **kwargs))

    call.__doc__ = iterated(method.__doc__)
    signature = inspect.signature(method)
    call.__signature__ = signature.replace(return_annotation=kind.__name__)  # type: ignore[attr-defined]
    return call


def _loading(
    method: Callable[Concatenate[Client, P], BackfillFuture],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, AsyncBackfillFuture]]:
    call = _asking(method, "AsyncBackfillFuture")
    call.__doc__ = (call.__doc__ or "").replace("BackfillFuture", "AsyncBackfillFuture")
    return cast("Callable[Concatenate[AsyncClient, P], Any]", call)


_cancel: Any = _asking(Client.cancel)


class AsyncClient:
    """Hands requests to deltaq's workers from an event loop, which it never blocks.

    It has the methods of :class:`Client`, with the same arguments, meanings and errors; await
    them. One client serves all tasks of one event loop, by two connections to Redis. Use it in
    an ``async with`` block, or ``await client.close()``.

    Frames are staged in threads: leave a frame as it is until its ``append`` returns. A forked
    process makes a client of its own.

    **Order.** Within a lane of a table requests are queued as their calls began: one after the
    other if each is awaited, and as created if they are gathered or made tasks. An outage does
    not change it.

    **Cancellation.** To cancel a task that awaits a future, also by a timeout, ends the wait and
    leaves the request alone, which ``await future.cancel()`` cancels. To cancel one that awaits
    ``append`` itself takes the request back if it had not been sent: then nothing is left
    behind. If it had been sent, it goes on; whoever gave it a ``request_id`` can ask for its
    outcome, or submit it again without harm. A cancelled ``read`` is not waited for any longer.

    Args:
        settings: The settings; by default read from deltaq.toml and the environment.
        arguments: Single settings that go before all others, such as ``lake="./lake"``.

    Raises:
        ConfigurationError: A setting is missing, unknown or impossible.

    Examples:
        In those of the methods ``client`` is such a client, and table ``prices`` has the rows of
        ``frame``.

        >>> frame = pd.DataFrame({"symbol": ["IBM", "MSFT"], "price": [101.5, 39.5]})
        >>> async with AsyncClient(lake="./lake") as client:
        ...     future = await client.append("prices", frame)  # staged and queued, durable
        ...     outcome = await future  # committed
        ...     rows = await client.read("prices", after=future)
        >>> outcome.inserted, rows.num_rows
        (2, 4)
    """

    def __init__(self, settings: Settings | None = None, **arguments: Any) -> None:
        self._pace = Pace()
        self._core = AsyncCore(settings_of(settings, arguments), partial(Looping, pace=self._pace))

    append = _submitting(Client.append)
    overwrite = _submitting(Client.overwrite)
    merge = _submitting(Client.merge)
    merge_scd2 = _submitting(Client.merge_scd2)
    delete = _submitting(Client.delete)

    backfill = _loading(Client.backfill)
    backfills = _asking(Client.backfills)
    backfill_progress = _asking(Client.backfill_progress)
    resume_backfill = _loading(Client.resume_backfill)
    cancel_backfill = _asking(Client.cancel_backfill)

    create = _submitting(Client.create)
    restore = _submitting(Client.restore)
    drop = _submitting(Client.drop)
    set_properties = _submitting(Client.set_properties)
    add_column = _submitting(Client.add_column)
    rename_column = _submitting(Client.rename_column)
    optimize = _submitting(Client.optimize)
    set_policy = _submitting(Client.set_policy)
    checkpoint = _submitting(Client.checkpoint)
    convert = _submitting(Client.convert)
    vacuum = _submitting(Client.vacuum)

    read = _reading(Client.read)
    sql = _reading(Client.sql)
    scan = _opening(Client.scan, AsyncScan)
    watch = _opening(Client.watch, AsyncWatch)
    history = _asking(Client.history)
    detail = _asking(Client.detail)
    analyze = _asking(Client.analyze)
    exists = _asking(Client.exists)
    tables = _asking(Client.tables)
    outcome = _asking(Client.outcome)

    status = _asking(Client.status)
    dead_letters = _asking(Client.dead_letters)

    async def cancel(
        self, request: AsyncFuture[Any] | str, *, request_id: str | None = None
    ) -> bool:
        """Cancel a request if no worker has begun with it.

        What a worker has begun with cannot be stopped: it goes on, and its outcome says what
        became of it.

        Args:
            request: The future of the request; or the table of a request of any client, with
                ``request_id``.
            request_id: Id of the request on that table.

        Returns:
            True if it is certain that the request is not and will not be applied; its future,
            whoever holds it, raises ``RequestCancelled``. False if a worker has begun with it,
            it is settled otherwise, or the queue does not know it.

        Raises:
            QueueUnavailable: Redis did not answer; the request goes on.

        Examples:
            >>> future = await client.append("prices", frame)
            >>> outcome = await future
            >>> await client.cancel(future)  # too late
            False
        """
        return bool(await _cancel(self, request, request_id=request_id))

    async def redrive(self, letters: Iterable[DeadLetter | str]) -> list[AsyncFuture[Outcome]]:
        """Submit dead letters anew, each under its own id, and forget that they failed.

        They go to the end of their lanes, in the order given. The future of one that could not
        be submitted has the error.

        Args:
            letters: From :meth:`dead_letters`, or ids of requests.

        Raises:
            InvalidRequest: There is no dead letter of that id, or several tables have one;
                nothing was submitted.

        Examples:
            >>> futures = await client.redrive(["order-9"])
            >>> futures[0].operation, futures[0].table
            ('append', 'orders')
        """
        return cast("list[AsyncFuture[Outcome]]", await redrive(self._core, letters))

    def progress(
        self, futures: Iterable[AsyncFuture[Outcome]], *, file: TextIO | None = None
    ) -> AsyncProgress:
        """Follow requests, of any client, and show how far they are.

        The result is iterated by ``async for``, for each future as it is done, or awaited by
        ``await progress.wait()`` for all. Meanwhile a bar tells how many are queued, committing,
        committed and failed, rows per second and the time left: in a terminal, or in a notebook.
        Elsewhere the same is told by a line of text every ten seconds.

        Args:
            futures: Of requests; each is followed once.
            file: Where to write; standard error by default.

        Examples:
            >>> futures = [await client.append("prices", frame) for _ in range(3)]
            >>> counts = await client.progress(futures).wait(timeout=30)
            >>> counts.committed, counts.failed
            (3, 0)
        """
        # Rich takes 0.1 s to import.
        from deltaq.client.display import make_display
        from deltaq.client.progress import AsyncProgress

        return AsyncProgress(self._core.follow(futures, make_display(file)))

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return self._core.settings

    async def close(self) -> None:
        """End the client's threads and connections. Requests go on without it.

        What is on its way to Redis is waited for, ``redis_timeout`` seconds at most. Futures that
        still wait fail with ``ResultTimeout``. What a spool holds is tried once more; then its
        futures fail with ``QueueUnavailable``, and its staged files are kept for
        ``deltaq recover``. A second call does nothing.

        Examples:
            >>> client = AsyncClient(lake="./lake")
            >>> await client.close()
        """
        await self._core.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
