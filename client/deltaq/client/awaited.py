"""The docstrings of AsyncClient's methods, made of those of Client's.

Their examples keep to forms that can be rewritten line by line: a test runs both.
"""

from __future__ import annotations

import re

_PROMPT = re.compile(r"^ *(?:>>>|\.\.\.) .*$", re.MULTILINE)
_CALL = re.compile(r"\bclient\.(\w+)\(")
#: With what stands behind it.
_RESULT = re.compile(r"\bfuture\.result\(timeout=\d+\)(?=(.?))")
#: Of a read, which gives rows and no future when it is awaited.
_ROWS = re.compile(r"(client\.(?:read|sql)\(.*\))\.result\(timeout=\d+\)$")


def awaited(doc: str | None) -> str | None:
    """Rewrite the docstring of a method that is awaited for what the other one returns."""
    return doc and _PROMPT.sub(lambda line: _awaited(line[0]), doc)


def awaited_twice(doc: str | None) -> str | None:
    """Rewrite that of a method which gives a future."""
    doc = awaited(doc)
    return doc and doc.replace(
        "The future of the :class:`Outcome`;", "The :class:`AsyncFuture` of the :class:`Outcome`;"
    )


def awaited_to_the_end(doc: str | None) -> str | None:
    """Rewrite that of a method which gives a future, when that is awaited, too."""
    doc = awaited(doc)
    doc = doc and doc.replace("The future of a pyarrow Table.", "A pyarrow Table.")
    return doc and re.sub("By the future: (.)", lambda found: found[1].upper(), doc)


def iterated(doc: str | None) -> str | None:
    """Rewrite that of a method whose result is taken by ``async for``."""
    doc = doc and re.sub(r"\b(with client|for \w+ in)\b", r"async \1", doc)
    return doc and doc.replace("By the iterator: ", "At a step: ")


def _awaited(line: str) -> str:
    line = _CALL.sub(_awaited_call, _ROWS.sub(r"\1", line))
    return _RESULT.sub(lambda found: "(await future)" if found[1] == "." else "await future", line)


def _awaited_call(call: re.Match[str]) -> str:
    # These two are iterated, and so are not awaited.
    return call[0] if call[1] in ("scan", "watch") else f"await {call[0]}"
