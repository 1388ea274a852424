"""What a caller selects rows by, as the SQL text that requests carry.

An expression of pyarrow tells its tree only to those who serialize it: as an IPC file with the
literals in its one row, and with the calls, in prefix order, as the metadata of its schema.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from deltaq.client.drafts import expression
from deltaq.tasks.errors import InvalidExpression

#: A condition in Spark SQL, an expression of pyarrow, or several that must all hold.
Where: TypeAlias = "str | pc.Expression | Sequence[str | pc.Expression]"

_INFIX = {
    "equal": "=",
    "not_equal": "<>",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "and_kleene": "AND",
    "or_kleene": "OR",
}


def condition(where: Where, what: str = "where") -> str:
    """Write what rows are selected by as one condition in Spark SQL.

    Args:
        where: SQL text, an expression of pyarrow, or a list of both, which must all hold.
        what: Which argument it is, for messages.

    Raises:
        InvalidExpression: It is neither, is empty, or has a part that SQL may understand
            otherwise; the message says what to write.
    """
    if isinstance(where, str):
        return expression(where, what)
    if isinstance(where, pc.Expression):
        return _Translator(where, what).text()
    if not isinstance(where, list | tuple) or not where:
        raise InvalidExpression(
            f"{what} must be SQL text, a pyarrow expression, or a list of them, not {where!r}"
        )
    # On lines of their own: a condition may end with a comment.
    return " AND ".join(f"(\n{condition(part, what)}\n)" for part in where)


class _Translator:
    """Writes the tree of one expression."""

    def __init__(self, where: pc.Expression, what: str) -> None:
        self._where, self._what = where, what
        try:
            file = pa.ipc.open_file(where.__reduce__()[1][0])
        except pa.ArrowNotImplementedError as exc:
            raise self._refusal(str(exc)) from exc
        self._literals = [column[0] for column in file.get_batch(0).columns]
        self._steps = _metadata(file.schema)
        self._next = 0

    def text(self) -> str:
        """Write what comes next: all of it, or an argument."""
        kind, value = self._step()
        if kind == "literal":
            return self._literal(self._literals[int(value)].as_py())
        if kind == "field_ref":
            return _quoted(value)
        if kind == "nested_field_ref":
            return ".".join(_quoted(self._step()[1]) for _ in range(int(value)))
        if kind == "call":
            return self._call(value)
        raise self._refusal(kind)

    def _call(self, name: str) -> str:
        arguments: list[str] = []
        options: dict[str, Any] = {}
        while self._steps[self._next][0] != "end":
            if self._steps[self._next][0] == "options":
                options = dict(self._literals[int(self._step()[1])])
            else:
                arguments.append(self.text())
        self._step()
        if name in _INFIX:
            return f"({arguments[0]} {_INFIX[name]} {arguments[1]})"
        if name == "invert":
            return f"(NOT {arguments[0]})"
        if name == "is_valid":
            return f"({arguments[0]} IS NOT NULL)"
        if name == "is_null" and not options["nan_is_null"].as_py():
            return f"({arguments[0]} IS NULL)"
        if name == "is_in":
            return self._is_in(arguments[0], options["value_set"].as_py())
        raise self._refusal(f"{name}()")

    def _step(self) -> tuple[str, str]:
        self._next += 1
        return self._steps[self._next - 1]

    def _is_in(self, column: str, values: list[Any]) -> str:
        # Unlike SQL's IN, pyarrow's isin() is never null, and finds nulls.
        known = [self._literal(value) for value in values if value is not None]
        found = f"({column} IS NOT NULL AND {column} IN ({', '.join(known)}))" if known else "false"
        return f"({found} OR {column} IS NULL)" if len(known) < len(values) else found

    def _literal(self, value: Any) -> str:
        match value:
            case bool():
                return str(value).lower()
            case int():
                return str(value)
            case Decimal() if value.is_finite():
                return f"{value:f}"
            case float() if value == value and abs(value) != float("inf"):
                return f"{value!r}D" if "e" in repr(value) else repr(value)
            case str():
                return _text(value)
            case dt.datetime():
                return self._moment(value)
            case dt.date():
                return f"DATE'{value.isoformat()}'"
        raise self._refusal(f"the literal {value!r}")

    def _moment(self, moment: dt.datetime) -> str:
        if moment.tzinfo is None:
            return f"TIMESTAMP_NTZ'{moment.isoformat(sep=' ', timespec='microseconds')}'"
        utc = moment.astimezone(dt.UTC)
        return f"TIMESTAMP'{utc.isoformat(sep=' ', timespec='microseconds')}'"

    def _refusal(self, part: str) -> InvalidExpression:
        shown = " ".join(str(self._where).split())
        return InvalidExpression(
            f"{self._what}={shown}: {part} has no counterpart in SQL that is known to mean the "
            "same; comparisons, &, |, ~, isin(), is_null() and is_valid() have one. Write the "
            "condition as Spark SQL text, such as \"abs(price) > 1 AND symbol LIKE 'A%'\"",
            details={"part": part},
        )


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


_capsule_pointer: Callable[[object, bytes], int] = ctypes.PYFUNCTYPE(
    ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p
)(("PyCapsule_GetPointer", ctypes.pythonapi))


def _metadata(schema: pa.Schema) -> list[tuple[str, str]]:
    """List a schema's metadata in order, with keys that come several times.

    ``schema.metadata`` is a dict. The struct ArrowSchema of Arrow's C data interface begins with
    the addresses of format, name and metadata; that is a count, then lengths and texts.
    """
    capsule = schema.__arrow_c_schema__()
    address = ctypes.cast(
        _capsule_pointer(capsule, b"arrow_schema"), ctypes.POINTER(ctypes.c_void_p)
    )[2]
    assert address is not None
    (pairs,) = struct.unpack("=i", ctypes.string_at(address, 4))
    place = address + 4
    found = []
    for _ in range(2 * pairs):
        (length,) = struct.unpack("=i", ctypes.string_at(place, 4))
        found.append(ctypes.string_at(place + 4, length).decode())
        place += 4 + length
    return list(zip(found[::2], found[1::2], strict=True))
