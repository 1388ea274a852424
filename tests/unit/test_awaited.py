"""AsyncClient's docstrings speak of what is awaited; tests/system/test_examples.py runs them."""

from __future__ import annotations

import inspect

import pytest

from deltaq.client import AsyncClient, Client
from deltaq.client.awaited import awaited, awaited_to_the_end, awaited_twice, iterated

DOC = """Do it.

    Returns:
        The future of the :class:`Outcome`; the request is queued.

    Raises:
        TableNotFound: By the future: there is none.

    Examples:
        >>> future = client.delete("prices", where="a")
        >>> future.result(timeout=30).deleted
        1
        >>> outcome = future.result(timeout=30)
        >>> rows = client.read("prices").result(timeout=30)
    """


def test_calls_and_results_are_awaited() -> None:
    assert (awaited(DOC) or "").splitlines()[9:15] == [
        '        >>> future = await client.delete("prices", where="a")',
        "        >>> (await future).deleted",
        "        1",
        "        >>> outcome = await future",
        '        >>> rows = await client.read("prices")',
        "    ",
    ]


def test_a_future_is_an_async_one_or_none_at_all() -> None:
    twice, to_the_end = awaited_twice(DOC) or "", awaited_to_the_end(DOC) or ""

    assert "The :class:`AsyncFuture` of the :class:`Outcome`;" in twice
    assert "TableNotFound: By the future: there is none." in twice
    assert "TableNotFound: There is none." in to_the_end


def test_what_is_iterated_is_not_awaited() -> None:
    doc = iterated(">>> with client.scan('t') as batches:\n...     for batch in batches:") or ""

    assert doc.split("\n") == [
        ">>> async with client.scan('t') as batches:",
        "...     async for batch in batches:",
    ]


def test_without_docstrings_there_is_nothing_to_rewrite() -> None:  # python -OO
    assert [f(None) for f in (awaited, awaited_twice, awaited_to_the_end, iterated)] == [None] * 4


@pytest.mark.parametrize("name", ["read", "sql"])
def test_a_read_has_no_future_to_speak_of(name: str) -> None:
    assert "future" in (inspect.getdoc(getattr(Client, name)) or "").partition("Returns")[2]
    assert (
        "future" not in (inspect.getdoc(getattr(AsyncClient, name)) or "").partition("Returns")[2]
    )
