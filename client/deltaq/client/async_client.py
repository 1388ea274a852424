"""The client for programs with an event loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TextIO, TypeVar, cast

from deltaq.client.async_core import AsyncCore
from deltaq.client.async_future import AsyncFuture
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

    if result:
        signature = inspect.signature(method)
        call.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]
    return call


def _submitting(
    method: Callable[Concatenate[Client, P], Future[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, AsyncFuture[T]]]:
    call = _asking(method, "AsyncFuture[Outcome]")
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

    signature = inspect.signature(method)
    call.__signature__ = signature.replace(return_annotation=kind.__name__)  # type: ignore[attr-defined]
    return call


_cancel: Any = _asking(Client.cancel)


class AsyncClient:
    """Hands requests to deltaq's workers from an event loop, which it never blocks.

    It has the methods of :class:`Client`, with the same arguments, meanings and errors; await
    them. One client serves all tasks of one event loop, by two connections to Redis. Use it in
    an ``async with`` block, or ``await client.close()``::

        async with AsyncClient() as client:
            future = await client.append("prices", frame)  # accepted: staged and queued, durable
            outcome = await future  # committed
            rows = await client.read("prices")

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
    """

    def __init__(self, settings: Settings | None = None, **arguments: Any) -> None:
        self._pace = Pace()
        self._core = AsyncCore(settings_of(settings, arguments), partial(Looping, pace=self._pace))

    append = _submitting(Client.append)
    overwrite = _submitting(Client.overwrite)
    merge = _submitting(Client.merge)
    merge_scd2 = _submitting(Client.merge_scd2)
    delete = _submitting(Client.delete)

    create = _submitting(Client.create)
    restore = _submitting(Client.restore)
    drop = _submitting(Client.drop)
    set_properties = _submitting(Client.set_properties)
    add_column = _submitting(Client.add_column)
    rename_column = _submitting(Client.rename_column)
    optimize = _submitting(Client.optimize)
    vacuum = _submitting(Client.vacuum)

    read = _reading(Client.read)
    sql = _reading(Client.sql)
    scan = _opening(Client.scan, AsyncScan)
    watch = _opening(Client.watch, AsyncWatch)
    history = _asking(Client.history)
    detail = _asking(Client.detail)
    exists = _asking(Client.exists)
    tables = _asking(Client.tables)
    outcome = _asking(Client.outcome)

    status = _asking(Client.status)
    dead_letters = _asking(Client.dead_letters)

    async def cancel(
        self, request: AsyncFuture[Any] | str, *, request_id: str | None = None
    ) -> bool:
        """Cancel a request if no worker has begun with it; see :meth:`Client.cancel`."""
        return bool(await _cancel(self, request, request_id=request_id))

    async def redrive(self, letters: Iterable[DeadLetter | str]) -> list[AsyncFuture[Outcome]]:
        """Submit dead letters anew; see :meth:`Client.redrive`."""
        return cast("list[AsyncFuture[Outcome]]", await redrive(self._core, letters))

    def progress(
        self, futures: Iterable[AsyncFuture[Outcome]], *, file: TextIO | None = None
    ) -> AsyncProgress:
        """Follow requests and show how far they are; see :meth:`Client.progress`.

        The result is iterated by ``async for``, or awaited by ``await progress.wait()``.
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
        """End the client's threads and connections; see :meth:`Client.close`.

        What is on its way to Redis is waited for, ``redis_timeout`` seconds at most.
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
