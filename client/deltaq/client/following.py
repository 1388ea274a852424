"""How the commits of tables are followed: the log first, then word of what is new.

A worker reads the log, in pages after a place in each table. Word comes by pub/sub with each
commit of deltaq. It may get lost, and others commit too, so the log is looked at now and then in
any case; and since only the log moves the place, nothing is left out or told twice.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import redis

from deltaq.client.async_core import AsyncCore
from deltaq.client.drafts import Columns, count, table_name
from deltaq.client.future import BaseFuture
from deltaq.client.wire import Heard
from deltaq.tasks import keys
from deltaq.tasks.errors import InvalidRequest, QueueUnavailable, ResultTimeout, TransientError
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.query import Commits, Place
from deltaq.tasks.request import new_request_id

#: Tables that one watch may follow.
_MOST_TABLES = 256
#: Seconds that one wait lasts at most: then it is seen whether the watch was closed.
_SLICE = 0.25
#: Seconds between two looks at the log while word comes faster.
_LEAST_PAUSE = 0.02


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One commit to a table, by whomever.

    Attributes:
        table: The table.
        version: The version that the commit made.
        timestamp: When, by the clock of who made it; with zone UTC.
        operation: ``append``, ``merge`` ... of deltaq; of others Delta's word, such as
            ``OPTIMIZE``.
        rows: Rows that it added, changed and removed; None if the log does not tell.
        request_ids: The requests in it, in order; none if deltaq did not make it.
        engine: ``native`` or ``spark``, or what another writer calls itself.

    Examples:
        >>> with client.watch("prices", from_version=0) as commits:
        ...     commit = commits.next(timeout=30)
        >>> commit.version, commit.operation, commit.rows, commit.engine
        (0, 'append', 2, 'native')
    """

    table: str
    version: int
    timestamp: datetime
    operation: str
    rows: int | None
    request_ids: tuple[str, ...]
    engine: str | None


class Follower:
    """The commits of some tables, one after the other; for one caller at a time.

    Args:
        core: Of the client.
        tables: One name or several.
        from_version: The first version to tell of, for all tables or by table; what is not said
            begins with the first commit after now.
        poll: Seconds after which the log is looked at without word.

    Raises:
        InvalidTableName, InvalidRequest: An argument cannot be meant.
    """

    def __init__(
        self,
        core: AsyncCore,
        tables: Columns,
        *,
        from_version: int | Mapping[str, int] | None,
        poll: float,
    ) -> None:
        self._core = core
        self._poll = poll
        self._places = _first_places(tables, from_version)
        self._channels = {keys.commits_channel(table): table for table in self._places}
        self._ready: deque[Commit] = deque()
        self._heard: Heard | None = None
        self._open = AsyncExitStack()
        self._asked: BaseFuture[Outcome] | None = None
        self._look_at = 0.0
        self._looked_at = 0.0
        self._trouble: Exception | None = None
        self.closed = False

    @property
    def next_versions(self) -> dict[str, int]:
        """By table, the version that comes next: ``from_version`` of who goes on from here."""
        known = {t: p.version + 1 for t, p in self._places.items() if p is not None}
        waiting = {commit.table: commit.version for commit in reversed(self._ready)}
        return {**known, **waiting}

    @property
    def quiet(self) -> bool:
        """Whether nothing is known to be wrong: there simply was no commit."""
        return self._trouble is None and self._asked is None

    async def begin(self, timeout: float | None) -> None:
        """Learn where the tables are that are followed from now on.

        Raises:
            ResultTimeout: No worker answered in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while None in self._places.values() and not self.closed:
            await self._step(deadline)

    async def next(self, timeout: float | None) -> Commit | None:
        """Wait for the next commit; None when the watch was closed.

        Raises:
            ResultTimeout: There was none in time; the watch goes on.
            QueueUnavailable: Redis did not answer all the time.
            VersionNotFound: The log was cleaned of the next commit; the range is told.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ready and not self.closed:
            await self._step(deadline)
        return None if self.closed else self._ready.popleft()

    async def close(self) -> None:
        """End the subscription, and stop waiting for an answer."""
        self.closed = True
        await self._lose(None)
        if self._asked is not None:
            self._core.discard(self._asked)
            self._asked = None

    async def _step(self, deadline: float | None) -> None:
        left = _SLICE if deadline is None else min(_SLICE, deadline - time.monotonic())
        if left <= 0:
            raise self._late()
        try:
            if self._heard is None:
                channels = self._core.wire.subscribe(*self._channels)
                self._heard = await self._open.enter_async_context(channels)
                self._look_at = 0.0
            if self._asked is not None or time.monotonic() >= self._look_at:
                await self._look(left)
            else:
                await self._hear(min(left, self._look_at - time.monotonic()))
        except ResultTimeout:  # the client was closed
            raise
        except (redis.exceptions.RedisError, OSError, TransientError) as exc:
            await self._lose(exc)
            await self._core.wire.pause(left)

    async def _hear(self, timeout: float) -> None:
        assert self._heard is not None
        message = await self._heard.message(max(0.0, timeout))
        if message is None:
            return
        if message["type"] == "subscribe":  # also after a connection was lost and replaced
            self._look_at = 0.0
        elif message["type"] == "message":
            place = self._places[self._channels[message["channel"]]]
            if (
                place is None
                or not message["data"].isdigit()
                or int(message["data"]) > place.version
            ):
                self._look_at = min(self._look_at, self._looked_at + _LEAST_PAUSE)

    async def _look(self, timeout: float) -> None:
        if self._asked is None:
            query = Commits(
                request_id=new_request_id(),
                client_id=self._core.client_id,
                places=dict(self._places),
            )
            self._asked = await self._core.ask(query, nullcontext)
            self._looked_at = time.monotonic()
        asked = self._asked
        try:
            outcome = await self._core.wire.answer(asked, timeout)
        except ResultTimeout:
            if asked.done():  # the client was closed
                raise
            return
        finally:
            if asked.done():
                self._asked = None
        self._trouble = None
        self._look_at = time.monotonic() + self._poll
        for table, found in outcome.value.items():
            self._learn(table, found)

    def _learn(self, table: str, found: dict[str, Any]) -> None:
        self._places[table] = msgspec.convert(found["place"], Place)
        self._ready += map(_commit, found["commits"])
        if found["more"]:
            self._look_at = 0.0

    async def _lose(self, trouble: Exception | None) -> None:
        self._trouble = trouble
        self._heard = None
        stack, self._open = self._open, AsyncExitStack()
        try:
            await stack.aclose()
        except (redis.exceptions.RedisError, OSError) as exc:  # it was lost already
            self._trouble = trouble or exc

    def _late(self) -> Exception:
        tables = ", ".join(self._places)
        if isinstance(self._trouble, QueueUnavailable):
            return self._trouble
        if self._trouble is not None:
            return ResultTimeout(f"the commits of {tables} cannot be followed: {self._trouble}")
        if self._asked is not None:
            return ResultTimeout(
                f"no word of the commits of {tables}: does a worker run that serves reads?"
            )
        return ResultTimeout(f"no commit to {tables} in time; the watch goes on")


def _commit(told: dict[str, Any]) -> Commit:
    moment = datetime.fromtimestamp(told["timestamp_ms"] / 1000, UTC)
    return Commit(
        table=told["table"],
        version=told["version"],
        timestamp=moment,
        operation=told["operation"],
        rows=told["rows"],
        request_ids=tuple(told["request_ids"]),
        engine=told["engine"],
    )


def _first_places(
    tables: Columns, from_version: int | Mapping[str, int] | None
) -> dict[str, Place | None]:
    names: Sequence[str] = (tables,) if isinstance(tables, str) else tuple(tables)
    if not 0 < len(names) <= _MOST_TABLES:
        raise InvalidRequest(f"watch takes 1 to {_MOST_TABLES} tables, not {len(names)}")
    given = (
        from_version if isinstance(from_version, Mapping) else dict.fromkeys(names, from_version)
    )
    if unknown := [table for table in given if table not in names]:
        raise InvalidRequest(f"from_version has tables that are not watched: {', '.join(unknown)}")
    places: dict[str, Place | None] = {}
    for name in names:
        first = given.get(name)
        known = None if first is None else Place(version=count(first, "from_version") - 1)
        places[table_name(name)] = known
    return places
