"""Conditions of requests: one dialect, Spark SQL, checked before an engine sees them.

The native engine speaks DataFusion's SQL, which reads alike and means other things: it
compares text with numbers as text, rounds decimals to doubles, and takes "A" for a column.
So :func:`translate` writes only what means the same in both, and leaves the rest to Spark.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.types as pt
import sqlglot
from sqlglot import exp

from deltaq.tasks.errors import InvalidExpression
from deltaq.tasks.suggest import did_you_mean
from deltaq.worker.engines import NotNative
from deltaq.worker.literals import literal

_SHOWN_CHARACTERS = 200

_NO_REASONS = {
    "it calls code outside SQL": ("reflect", "try_reflect", "java_method", "identifier"),
    "a commit that is tried again must do the same": (
        *("rand", "random", "randn", "randstr", "uniform", "uuid", "shuffle"),
        *("monotonically_increasing_id", "spark_partition_id"),
    ),
    "it depends on how the files happen to lie": (
        *("input_file_name", "input_file_block_start", "input_file_block_length"),
    ),
    "it would tell of the worker, not of the caller": (
        *("current_user", "user", "session_user", "version"),
        *("current_catalog", "current_database", "current_schema"),
    ),
    "it only fails or waits": ("raise_error", "assert_true", "sleep"),
}
_REFUSED_FUNCTIONS = {name: why for why, names in _NO_REASONS.items() for name in names}

_REFUSED_NODES: dict[type[exp.Expr], str] = {
    exp.Query: "it has a subquery",
    exp.Window: "it has a window function",
    exp.AggFunc: "it has an aggregate function",
    exp.UDTF: "it has a function that makes rows",
    exp.Star: "it has a *",
    exp.Placeholder: "it has a parameter",
    exp.Parameter: "it has a parameter",
    exp.Alias: "it gives a name to something",
}
_NEVER_BOOLEAN = (
    *(exp.Literal, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod),
    *(exp.Null, exp.Interval, exp.Tuple, exp.Array, exp.Concat, exp.HexString, exp.RawString),
)
_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM",
}


class Untranslatable(NotNative):
    """The expression may mean something else to the native engine."""


def check_columns(text: str, schema: pa.Schema, *, what: str) -> None:
    """Check that a text is one condition for each row, whose columns are there, in whatever case.

    Args:
        text: Spark SQL.
        schema: The columns it may use.
        what: Which argument it is, for messages: where, delete_when.

    Raises:
        InvalidExpression: It does not parse, is no condition, calls what it must not, or a column
            is not in the schema.
    """
    for column in _parse(text, what).find_all(exp.Column):
        # Of "a.b" the column is "a" and "b" a field in it.
        _resolve(column.parts[0].name, schema, text, what)


def columns_in(text: str, schema: pa.Schema, *, what: str) -> frozenset[str]:
    """List the columns that a condition uses, as the schema spells them.

    Raises:
        InvalidExpression: As :func:`check_columns`.
    """
    columns = _parse(text, what).find_all(exp.Column)
    return frozenset(_resolve(c.parts[0].name, schema, text, what).name for c in columns)


def translate(text: str, schema: pa.Schema, *, what: str, qualifier: str | None = None) -> str:
    """Write a condition in DataFusion's SQL.

    Args:
        text: Spark SQL.
        schema: The columns it may use, in Delta's types.
        what: Which argument it is, for messages.
        qualifier: Alias to put before each column.

    Raises:
        InvalidExpression: As :func:`check_columns`.
        Untranslatable: It is not known to mean the same.
    """
    check_columns(text, schema, what=what)
    prefix = f"{qualifier}." if qualifier else ""
    return Translator(text, schema, what, prefix).condition(_parse(text, what))


@functools.lru_cache(maxsize=256)
def _parse(text: str, what: str) -> exp.Expr:
    try:
        parsed = sqlglot.parse(text, dialect="spark")
    except sqlglot.errors.SqlglotError as exc:
        raise _invalid(text, what, unparsed(exc)) from exc
    statements = [s for s in parsed if s is not None]
    if not statements:
        raise _invalid(text, what, "it is empty")
    if len(statements) > 1:
        raise _invalid(text, what, "it is more than one expression")
    for reason in _objections(statements[0]):
        raise _invalid(text, what, reason)
    return statements[0]


def unparsed(error: sqlglot.errors.SqlglotError) -> str:
    """Say where a parser gave up, without its own names for what it did not find."""
    found = error.errors if isinstance(error, sqlglot.errors.ParseError) else []
    if not found:
        return "it cannot be parsed: a quote or a comment has no end"
    near, said = found[0]["highlight"], str(found[0]["description"])
    if said.startswith("Expecting "):
        problem = f"{said.removeprefix('Expecting ')!r} is missing after {near!r}"
    elif "Unexpected token" in said:
        problem = f"{near!r} is not expected"
    else:
        problem = f"something is missing at {near!r}"
    return f"it cannot be parsed: {problem} (line {found[0]['line']}, character {found[0]['col']})"


def _objections(root: exp.Expr) -> Iterator[str]:
    for node in root.walk():
        yield from (why for kind, why in _REFUSED_NODES.items() if isinstance(node, kind))
        for name in function_names(node):
            if name in _REFUSED_FUNCTIONS:
                yield f"{name}() is not allowed: {_REFUSED_FUNCTIONS[name]}"
    bare = root.unnest()
    if not isinstance(bare, exp.Condition) or isinstance(bare, _NEVER_BOOLEAN):
        yield "it is no condition"


def function_names(node: exp.Expr) -> list[str]:
    """Name the function that a node calls, in lower case, with all names that it has."""
    if isinstance(node, exp.Anonymous):
        return [node.name.lower()]
    return [name.lower() for name in node.sql_names()] if isinstance(node, exp.Func) else []


def _resolve(name: str, schema: pa.Schema, text: str, what: str) -> pa.Field:
    for field in schema:
        if field.name.lower() == name.lower():
            return field
    near = did_you_mean(name, schema.names)
    raise _invalid(text, what, f"there is no column {name!r}{near}")


def _invalid(text: str, what: str, reason: str) -> InvalidExpression:
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return InvalidExpression(f"{what}={shown!r}: {reason}", details={"reason": reason})


class Translator:
    """Writes the nodes of a condition that it knows; ``tests/unit/test_expressions.py`` proves each."""

    def __init__(self, text: str, schema: pa.Schema, what: str, prefix: str) -> None:
        self._text, self._schema, self._what, self._prefix = text, schema, what, prefix

    def condition(self, node: exp.Expr) -> str:
        """Write a condition.

        Raises:
            Untranslatable: It is not known to mean the same.
        """
        if isinstance(node, exp.Paren):
            return f"({self.condition(node.this)})"
        if isinstance(node, exp.Not):
            return f"NOT ({self.condition(node.this)})"
        if isinstance(node, exp.And | exp.Or):
            word = "AND" if isinstance(node, exp.And) else "OR"
            # Spark's precedence is in the tree already; parentheses keep it.
            return f"({self.condition(node.left)}) {word} ({self.condition(node.right)})"
        if isinstance(node, exp.Boolean):
            return "true" if node.this else "false"
        if isinstance(node, exp.Column):
            return self._typed(node, pt.is_boolean)[0]
        return self._predicate(node)

    def _predicate(self, node: exp.Expr) -> str:
        if type(node) in _COMPARISONS:
            return self._comparison(node)
        if isinstance(node, exp.Is):
            return self._is(node)
        if isinstance(node, exp.Between):
            self._only(node, "this", "low", "high")
            column, low, high = self._with_literals(node.this, node.args["low"], node.args["high"])
            return f"{column} BETWEEN {low} AND {high}"
        if isinstance(node, exp.In):
            self._only(node, "this", "expressions")
            column, *values = self._with_literals(node.this, *node.expressions)
            return f"{column} IN ({', '.join(values)})"
        if isinstance(node, exp.Like):
            return self._like(node)
        raise self._unknown(node)

    def _comparison(self, node: exp.Expr) -> str:
        self._only(node, "this", "expression")
        left, right, word = node.this, node.expression, _COMPARISONS[type(node)]
        if isinstance(left, exp.Column) and isinstance(right, exp.Column):
            (one, kind), (other, other_kind) = self._typed(left), self._typed(right)
            # DataFusion makes IS NOT NULL of "a = a", which is not so below NOT.
            if kind != other_kind or one == other:
                raise self._unknown(node)
            return f"{one} {word} {other}"
        if isinstance(right, exp.Column):
            column, value = self._with_literals(right, left)
            return f"{value} {word} {column}"
        column, value = self._with_literals(left, right)
        return f"{column} {word} {value}"

    def _is(self, node: exp.Is) -> str:
        self._only(node, "this", "expression")
        if isinstance(node.expression, exp.Null):
            return f"{self._column(node.this)[0]} IS NULL"
        if isinstance(node.expression, exp.Boolean):
            value = "TRUE" if node.expression.this else "FALSE"
            return f"{self._typed(node.this, pt.is_boolean)[0]} IS {value}"
        raise self._unknown(node)

    def _like(self, node: exp.Like) -> str:
        self._only(node, "this", "expression", "negate")
        pattern = node.expression
        # A backslash escapes, but not the same things.
        if not (
            isinstance(pattern, exp.Literal) and pattern.is_string and "\\" not in pattern.name
        ):
            raise self._unknown(node)
        column, _ = self._typed(node.this, pt.is_string)
        word = "NOT LIKE" if node.args.get("negate") else "LIKE"
        return f"{column} {word} {literal(pattern, pa.string())}"

    def _with_literals(self, column: exp.Expr, *values: exp.Expr) -> list[str]:
        """Write a column and literals that Spark would compare in the column's type."""
        written, kind = self._typed(column)
        literals = [text for value in values if (text := literal(value, kind)) is not None]
        if len(literals) < len(values):
            raise self._unknown(column.parent or column)
        return [written, *literals]

    def _typed(
        self, node: exp.Expr, check: Callable[[pa.DataType], bool] | None = None
    ) -> tuple[str, pa.DataType]:
        written, kind = self._column(node)
        if (check is not None and not check(kind)) or pt.is_nested(kind) or pt.is_binary(kind):
            raise self._unknown(node)
        if pt.is_floating(kind):
            name = "DOUBLE" if pt.is_float64(kind) else "REAL"
            # One NaN and one zero, as in Spark; and statistics, which know neither, are left out.
            written = f"nanvl({written} + CAST(0 AS {name}), CAST('NaN' AS {name}))"
        return written, kind

    def _column(self, node: exp.Expr) -> tuple[str, pa.DataType]:
        if not isinstance(node, exp.Column) or len(node.parts) != 1:
            raise self._unknown(node)
        field = _resolve(node.name, self._schema, self._text, self._what)
        quoted = field.name.replace('"', '""')
        return f'{self._prefix}"{quoted}"', field.type

    def _only(self, node: exp.Expr, *known: str) -> None:
        """Refuse a node with parts that this class does not know."""
        if any(value for name, value in node.args.items() if name not in known):
            raise self._unknown(node)

    def _unknown(self, node: exp.Expr) -> Untranslatable:
        part = node.sql(dialect="spark")
        return Untranslatable(f"{self._what}={self._text!r}: {part!r} is for Spark to evaluate")
