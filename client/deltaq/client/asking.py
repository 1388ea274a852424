"""From a caller's arguments to a checked query, sent when what it waits for is done."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar, cast

import msgspec

from deltaq.client.async_core import AsyncCore
from deltaq.client.core import Core
from deltaq.client.drafts import (
    Columns,
    column_names,
    count,
    engine_name,
    optional,
    table_name,
    utc,
)
from deltaq.client.future import BaseFuture, Future
from deltaq.client.pending import Load
from deltaq.client.selection import Where, condition
from deltaq.tasks.errors import InvalidRequest
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.query import Query, Read, Sql, query_name
from deltaq.tasks.request import new_request_id

T = TypeVar("T")
R = TypeVar("R", bound=Read)

#: A future of a write, or several.
After = BaseFuture[Outcome] | Sequence[BaseFuture[Outcome]]
#: Seconds. Longer than this nothing waits for a version; workers keep no list of wishes.
_LONGEST_WAIT = 3600.0


def read_query(
    kind: type[R],
    *,
    client_id: str,
    table: str,
    columns: Columns | None,
    where: Where | None,
    version: int | None,
    timestamp: str | datetime | None,
    limit: int | None,
    engine: str | None,
    min_version: int | None,
    version_timeout: float,
) -> R:
    """Make the query that reads rows, at once or as a stream.

    Raises:
        InvalidTableName, InvalidRequest, InvalidExpression: An argument cannot be meant.
    """
    if version is not None and timestamp is not None:
        raise InvalidRequest("version and timestamp are both given: a read is as of one of them")
    return kind(
        request_id=new_request_id(),
        client_id=client_id,
        table=table_name(table),
        columns=optional(column_names, columns, "columns"),
        where=optional(condition, where, "where"),
        version=optional(count, version, "version"),
        timestamp=utc(timestamp),
        limit=optional(count, limit, "limit"),
        engine=engine_name(engine),
        min_version=optional(count, min_version, "min_version"),
        wait_seconds=wait_seconds(version_timeout),
    )


def wait_seconds(version_timeout: float) -> float:
    """Check how long a query may wait for versions.

    Raises:
        InvalidRequest: It is no number of seconds from 0 to an hour.
    """
    if not isinstance(version_timeout, int | float) or not 0 <= version_timeout <= _LONGEST_WAIT:
        raise InvalidRequest(
            f"version_timeout {version_timeout!r}: give seconds from 0 to {_LONGEST_WAIT:g}"
        )
    return float(version_timeout)


def ask_after(
    core: Core | AsyncCore, query: Query, load: Load[T], after: After | None
) -> Future[T]:
    """Send a query once writes are committed; it then sees what they wrote.

    The future fails with the error of the first write that failed. Over the core of an event
    loop all this is a coroutine, as of every method of the core.

    Raises:
        InvalidRequest: ``after`` is no future of a client.
        QueueUnavailable: Redis did not answer, when there is nothing to wait for.
    """
    awaited = _futures(after)
    if isinstance(core, AsyncCore):
        return cast("Future[T]", _ask_in_loop(core, query, load, awaited))
    if not awaited:
        return core.ask(query, load)
    future: Future[T] = Future(
        request_id=query.request_id, table=query.table, operation=query_name(query)
    )

    def send() -> None:
        try:
            asked = core.ask(_seeing(query, awaited), load)
        except Exception as exc:
            future._fail(exc)
        else:
            asked.add_done_callback(partial(_pass_on, future))

    def hand_over() -> None:
        try:
            core.later(send)
        except RuntimeError:  # its threads have ended
            future._fail(InvalidRequest("the client was closed before the read began"))

    _when_done(awaited, hand_over)
    return future


async def _ask_in_loop(
    core: AsyncCore, query: Query, load: Load[T], awaited: Sequence[Any]
) -> BaseFuture[T]:
    for future in awaited:
        await future
    return await core.ask(_seeing(query, awaited), load)


def _futures(after: After | None) -> list[Any]:
    if after is None:
        return []
    found = [after] if isinstance(after, BaseFuture) else list(after)
    for future in found:
        if not isinstance(future, BaseFuture):
            raise InvalidRequest(f"after={future!r} is no future of a write of this client")
    return found


def _when_done(futures: Sequence[Future[Any]], call: Callable[[], None]) -> None:
    if not futures:
        call()
        return
    futures[0].add_done_callback(lambda _: _when_done(futures[1:], call))


def _seeing(query: Query, futures: Iterable[BaseFuture[Any]]) -> Query:
    """Have a query wait for the versions that writes made, of the tables it reads."""
    made: dict[str, int] = {}
    for future in futures:
        outcome = future.result()
        if not isinstance(outcome, Outcome):
            raise InvalidRequest(f"after={future!r} is no write, but a {future.operation}")
        made[outcome.table] = max(made.get(outcome.table, 0), outcome.version or 0)
    if isinstance(query, Sql):
        return msgspec.structs.replace(query, min_versions={**query.min_versions, **made})
    if isinstance(query, Read) and query.table in made:
        needed = max(query.min_version or 0, made[query.table])
        return msgspec.structs.replace(query, min_version=needed)
    return query


def _pass_on(future: Future[T], answered: concurrent.futures.Future[T]) -> None:
    error = answered.exception()
    if error is not None:
        future._fail(error)
    else:
        future._succeed(answered.result())
