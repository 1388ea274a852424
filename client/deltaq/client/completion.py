"""Waiting for many futures."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable, Iterator
from typing import TypeVar

from deltaq.client.future import Future
from deltaq.tasks.errors import InvalidRequest, ResultTimeout

T = TypeVar("T")


def gather(futures: Iterable[Future[T]], *, timeout: float | None = None) -> list[T]:
    """Wait for futures and return their results, in the order of the futures.

    Args:
        futures: Of one client or several.
        timeout: Seconds to wait for all of them; None waits for ever.

    Raises:
        ResultTimeout: Some have no outcome yet; their requests go on.
        DeltaqError: The error of one that failed, as soon as it has. The others go on.

    Examples:
        >>> futures = [client.append("prices", frame) for _ in range(3)]
        >>> sum(outcome.inserted for outcome in gather(futures, timeout=30))
        6
    """
    asked = _checked(futures)
    done, waiting = concurrent.futures.wait(
        asked, timeout, return_when=concurrent.futures.FIRST_EXCEPTION
    )
    for future in asked:
        if future in done and (error := future.exception()):
            raise error
    if waiting:
        raise _late(len(waiting), len(set(asked)), timeout)
    return [future.result() for future in asked]


def as_completed(
    futures: Iterable[Future[T]], *, timeout: float | None = None
) -> Iterator[Future[T]]:
    """Yield futures as they are done, those first that are done already.

    Args:
        futures: Of one client or several; each is yielded once.
        timeout: Seconds from the call until the last one must be done; None waits for ever.

    Raises:
        ResultTimeout: Some have no outcome yet; their requests go on.

    Examples:
        >>> futures = [client.append("prices", frame) for _ in range(3)]
        >>> for future in as_completed(futures, timeout=30):
        ...     print(future.result().inserted)
        2
        2
        2
    """
    asked = set(_checked(futures))
    return _as_completed(concurrent.futures.as_completed(asked, timeout), len(asked), timeout)


def _as_completed(
    done: Iterator[concurrent.futures.Future[T]], total: int, timeout: float | None
) -> Iterator[Future[T]]:
    left = total
    try:
        for future in done:
            left -= 1
            yield future  # type: ignore[misc]  # they are those that were given
    except TimeoutError:
        raise _late(left, total, timeout) from None


def _checked(futures: Iterable[Future[T]]) -> list[Future[T]]:
    asked = list(futures)
    for future in asked:
        if not isinstance(future, Future):
            raise InvalidRequest(
                f"{future!r} is no future of a client for threads; in an event loop use "
                "asyncio.gather and asyncio.as_completed"
            )
    return asked


def _late(left: int, total: int, timeout: float | None) -> ResultTimeout:
    return ResultTimeout(
        f"{left} of {total} futures have no outcome within {timeout:g} s; their requests go on",
        details={"pending": left},
    )
