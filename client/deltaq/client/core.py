"""The core of a client for threads: that of every client, over a wire that blocks."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from deltaq.client.async_core import AsyncCore
from deltaq.client.blocking import Blocking
from deltaq.client.dead_letters import DeadLetter
from deltaq.client.future import BaseFuture, Future
from deltaq.client.redrive import redrive
from deltaq.client.wire import finish
from deltaq.tasks.outcome import Outcome

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.tasks.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


def _at_once(
    method: Callable[Concatenate[AsyncCore, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Core, P], T]:
    @wraps(method)
    def call(self: Core, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return finish(method(self.shared, *args, **kwargs))

    return cast("Callable[Concatenate[Core, P], T]", call)


def _for_future(
    method: Callable[Concatenate[AsyncCore, P], Coroutine[Any, Any, BaseFuture[T]]],
) -> Callable[Concatenate[Core, P], Future[T]]:
    # Over this wire there are no other futures.
    return cast("Callable[Concatenate[Core, P], Future[T]]", _at_once(method))


class Core:
    """What the methods of :class:`Client` call; each is a coroutine of :class:`AsyncCore`.

    Args:
        settings: The settings.
    """

    def __init__(self, settings: Settings) -> None:
        self.shared = AsyncCore(settings, Blocking)
        self.settings = settings
        self.staging = self.shared.staging
        self.take_rows = self.shared.take_rows
        self.later = self.shared.later
        _cores.add(self.shared)

    @property
    def client_id(self) -> str:
        """Whose channel is heard; another one after a fork."""
        return self.shared.client_id

    write = _for_future(AsyncCore.write)
    order = _for_future(AsyncCore.order)
    ask = _for_future(AsyncCore.ask)
    answer = _at_once(AsyncCore.answer)
    outcome = _at_once(AsyncCore.outcome)
    cancel = _at_once(AsyncCore.cancel)
    status = _at_once(AsyncCore.status)
    dead_letters = _at_once(AsyncCore.dead_letters)
    close = _at_once(AsyncCore.close)

    def redrive(self, letters: Iterable[DeadLetter | str]) -> list[Future[Outcome]]:
        """Submit dead letters anew."""
        return cast("list[Future[Outcome]]", finish(redrive(self.shared, letters)))


#: A fork copies a client without its thread, and with sockets that are the parent's.
_cores: weakref.WeakSet[AsyncCore] = weakref.WeakSet()


def _start_afresh() -> None:
    for core in list(_cores):
        if not core.closed:
            core.start()


os.register_at_fork(after_in_child=_start_afresh)
