"""What the tasks of an event loop send to Redis: over one connection, in order, many at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

import redis.asyncio
from redis.exceptions import ResponseError

from deltaq.client.spool import never_left
from deltaq.tasks.connection import queue_errors, script_text, takes_flags
from deltaq.tasks.errors import QueueUnavailable
from deltaq.tasks.request import Lane, Request

T = TypeVar("T")

#: Commands sent in one go. To write more of them would hold the loop for milliseconds.
_AT_ONCE = 64

_LaneKey = tuple[str, Lane]


@dataclass(frozen=True, slots=True)
class Script:
    """A run of ``lua/<name>.lua``."""

    name: str
    keys: list[str]
    args: list[object]


class _Parcel(Generic[T]):
    """Commands that are sent together, and who waits for what their replies mean."""

    __slots__ = ("commands", "read", "result")

    def __init__(
        self, commands: Sequence[Script | Sequence[Any]], read: Callable[[list[Any]], T]
    ) -> None:
        self.commands = commands
        self.read = read
        self.result: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def deliver(self, replies: list[Any]) -> None:
        """Read the replies, also when nobody waits any longer."""
        try:
            with queue_errors():
                for reply in replies:
                    if isinstance(reply, ResponseError):
                        raise reply
            result = self.read(replies)
        except Exception as exc:
            self.fail(exc)
        else:
            if not self.result.done():
                self.result.set_result(result)

    def fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class Place:
    """The place of one submission among those of its lane.

    Attributes:
        sent: How often it was sent; Redis may have the request if it was.
    """

    __slots__ = ("alone", "first", "lane", "left", "parcel", "sent")

    def __init__(self, lane: _LaneKey, *, alone: bool) -> None:
        self.lane = lane
        self.alone = alone
        self.sent = 0
        self.left = False
        #: Resolves when nothing is before it any longer, if somebody waits for that.
        self.first: asyncio.Future[None] | None = None
        self.parcel: _Parcel[Any] | None = None


class Outbox:
    """Sends what the tasks of one event loop have for Redis.

    Each lane of a table has a line. A submission takes its place when it begins, may be staged
    sooner or later than its neighbours, and is sent when all before it are on their way. One
    that is tried again keeps its place until then, so that order survives an outage.

    Args:
        client: One connection, which only the outbox uses.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._lines: dict[_LaneKey, deque[Place]] = {}
        self._others: deque[_Parcel[Any]] = deque()
        self._task: asyncio.Task[None] | None = None  # none while there is nothing to send
        self._closed = False
        self._flags: bool | None = None

    @contextmanager
    def place(self, request: Request, *, alone: bool) -> Iterator[Place]:
        """Take a place behind those of the same lane; with ``alone`` none behind it is sent."""
        place = Place((request.table, request.lane), alone=alone)
        self._lines.setdefault(place.lane, deque()).append(place)
        try:
            yield place
        finally:
            self._leave(place)

    async def first(self, place: Place) -> None:
        """Wait until a place is the first of its line."""
        if self._lines[place.lane][0] is not place:
            place.first = asyncio.get_running_loop().create_future()
            await place.first

    async def submit(self, place: Place, script: Script, read: Callable[[Any], T]) -> T:
        """Run a script when the turn of its place has come; see :meth:`ask`."""
        parcel = _Parcel([script], lambda replies: read(replies[0]))
        place.parcel = parcel
        self._start()
        try:
            return await parcel.result
        finally:
            place.parcel = None

    async def ask(
        self, commands: Sequence[Script | Sequence[Any]], read: Callable[[list[Any]], T]
    ) -> T:
        """Run commands and return what their replies mean.

        Args:
            commands: The commands.
            read: Called with the replies once they are there, whoever waits for them still.

        Raises:
            QueueUnavailable, QueueFull: As :func:`queue_errors` says.
        """
        parcel = _Parcel(commands, read)
        self._others.append(parcel)
        self._start()
        return await parcel.result

    async def close(self) -> None:
        """End when what is on its way is answered; fail what is not."""
        self._closed = True
        if self._task is not None:
            await self._task
        self._fail_ready(QueueUnavailable("the client was closed before the request was sent"))

    def _start(self) -> None:
        if self._closed:  # Redis may have what was sent before: its staged file must be kept
            raise QueueUnavailable("the client was closed before the request was sent")
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="deltaq-outbox")

    async def _run(self) -> None:
        try:
            while not self._closed and (batch := self._next()):
                await self._send(batch)
        finally:
            self._task = None

    def _next(self) -> list[tuple[Place | None, _Parcel[Any]]]:
        batch: list[tuple[Place | None, _Parcel[Any]]] = []
        count = 0
        while self._others and count < _AT_ONCE:
            parcel = self._others.popleft()
            batch.append((None, parcel))
            count += len(parcel.commands)
        for line in self._lines.values():
            for place in line:
                if place.parcel is None or count >= _AT_ONCE:
                    break
                batch.append((place, place.parcel))
                place.parcel = None
                place.sent += 1
                count += 1
                if place.alone:
                    break
        return batch

    async def _send(self, batch: list[tuple[Place | None, _Parcel[Any]]]) -> None:
        commands = [command for _, parcel in batch for command in parcel.commands]
        try:
            with queue_errors():
                replies = iter(await self._execute(commands))
        except QueueUnavailable as exc:
            self._fail(batch, exc)
            # Those behind would only wait for these: let each try until its own time is over.
            self._fail_ready(exc)
            return
        except Exception as exc:  # this task must not end while others wait for it
            self._fail(batch, exc)
            return
        for place, parcel in batch:
            parcel.deliver([next(replies) for _ in parcel.commands])
            if place is not None and (parcel.result.cancelled() or not parcel.result.exception()):
                self._leave(place)

    async def _execute(self, commands: list[Script | Sequence[Any]]) -> list[Any]:
        if self._flags is None:
            server: Any = await self._client.info("server")
            self._flags = takes_flags(server["redis_version"])
        pipeline = self._client.pipeline(transaction=False)
        known: set[str] = set()
        for command in commands:
            if isinstance(command, Script):
                # The first of a pipeline brings its text, so that Redis knows it for the others.
                how, what = _run_script(command.name, self._flags, command.name in known)
                known.add(command.name)
                command = (how, what, len(command.keys), *command.keys, *command.args)
            pipeline.execute_command(*command)
        return list(await pipeline.execute(raise_on_error=False))

    def _fail(self, batch: list[tuple[Place | None, _Parcel[Any]]], error: Exception) -> None:
        for place, parcel in batch:
            if place is not None and never_left(error):
                place.sent -= 1
            parcel.fail(_like(error))

    def _fail_ready(self, error: Exception) -> None:
        for line in self._lines.values():
            for place in line:
                if place.parcel is not None:
                    place.parcel.fail(_like(error))
                    place.parcel = None
        while self._others:
            self._others.popleft().fail(_like(error))

    def _leave(self, place: Place) -> None:
        if place.left:
            return
        place.left = True
        line = self._lines[place.lane]
        line.remove(place)
        if not line:
            del self._lines[place.lane]
            return
        head = line[0]
        if head.first is not None and not head.first.done():
            head.first.set_result(None)
        if head.parcel is not None and not self._closed:
            self._start()


def _like(error: Exception) -> Exception:
    """Make an error for each of those who get the same one, as each adds to its traceback."""
    if not isinstance(error, QueueUnavailable):
        return error
    own = QueueUnavailable(error.message, details=error.details)
    own.__cause__ = error.__cause__
    return own


@cache
def _digest(name: str, flags: bool) -> str:
    # Redis knows scripts by it.
    text = script_text(name, flags=flags).encode()
    return hashlib.sha1(text, usedforsecurity=False).hexdigest()


def _run_script(name: str, flags: bool, known: bool) -> tuple[str, str]:
    if known:
        return "EVALSHA", _digest(name, flags)
    return "EVAL", script_text(name, flags=flags)
