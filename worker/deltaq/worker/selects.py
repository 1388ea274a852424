"""SELECT statements of callers: which tables they name, and that they only read these.

Whatever is written here is checked a second time by the engine's own parser, on a session in
which names are nothing but these tables.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.scope import build_scope

from deltaq.tasks.errors import InvalidExpression, InvalidTableName
from deltaq.tasks.names import check_table_name
from deltaq.worker.expressions import function_names, unparsed

_SHOWN_CHARACTERS = 200
_MOST_TABLES = 32

_REFUSED_NODES: dict[type[exp.Expr], str] = {
    exp.DDL: "it may only read",
    exp.DML: "it may only read",
    exp.Command: "it may only read",
    exp.Into: "it may only read",
    exp.QueryTransform: "it runs a program",
    exp.Placeholder: "it has a parameter",
    exp.Parameter: "it has a parameter",
    exp.SessionParameter: "it has a parameter",
}
_CALLS_CODE = "it calls code outside SQL"
_REFUSED_FUNCTIONS = {
    **dict.fromkeys(("reflect", "try_reflect", "java_method", "identifier"), _CALLS_CODE),
    **dict.fromkeys(
        ("input_file_name", "input_file_block_start", "input_file_block_length", "read_files"),
        "it would tell of files, not of tables",
    ),
    **dict.fromkeys(
        ("current_user", "user", "session_user", "current_catalog", "current_database"),
        "it would tell of the worker, not of the caller",
    ),
    "sleep": "it only waits",
}


@dataclass(frozen=True, kw_only=True)
class Select:
    """A statement that only reads.

    Attributes:
        text: As it was given.
        tree: What it says. Not to be changed.
        tables: Names of the tables that it reads, as it spells them.
    """

    text: str
    tree: exp.Query
    tables: tuple[str, ...]


@functools.lru_cache(maxsize=128)
def parse_select(text: str) -> Select:
    """Read one SELECT, which may have WITH, UNION and subqueries.

    Args:
        text: Spark SQL.

    Raises:
        InvalidExpression: It does not parse, is something else, or reads what is no table.
        InvalidTableName: A name that no table can have.
    """
    try:
        statements = [s for s in sqlglot.parse(text, dialect="spark") if s is not None]
    except sqlglot.errors.SqlglotError as exc:
        raise invalid(text, unparsed(exc)) from exc
    if len(statements) != 1:
        raise invalid(text, "it must be one SELECT")
    tree = statements[0]
    for node in tree.walk():
        for kind, why in _REFUSED_NODES.items():
            if isinstance(node, kind):
                raise invalid(text, why)
        for name in function_names(node):
            if name in _REFUSED_FUNCTIONS:
                raise invalid(text, f"{name}() is not allowed: {_REFUSED_FUNCTIONS[name]}")
    if not isinstance(tree.unnest(), exp.Select | exp.SetOperation):
        raise invalid(text, "it is no SELECT")
    assert isinstance(tree, exp.Query)
    return Select(text=text, tree=tree, tables=_tables(text, tree))


def _tables(text: str, tree: exp.Query) -> tuple[str, ...]:
    scope = build_scope(tree)
    scopes = list(scope.traverse()) if scope else []
    sources = [s for found in scopes for s in found.sources.values()]
    real = {id(source): source for source in sources if isinstance(source, exp.Table)}
    defined = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if id(table) not in real and table.name.lower() not in defined:
            real[id(table)] = table
    names = tuple(sorted({_table_name(text, table) for table in real.values()}))
    if not names:
        raise invalid(text, "it reads no table")
    if len(names) > _MOST_TABLES:
        raise invalid(text, f"it reads more than {_MOST_TABLES} tables")
    if len({name.lower() for name in names}) < len(names):
        raise invalid(text, "two of its tables have names that differ only by case")
    return names


def _table_name(text: str, table: exp.Table) -> str:
    if not isinstance(table.this, exp.Identifier):
        raise invalid(text, f"{table.sql(dialect='spark')!r} is no table of the lake")
    if table.db or table.catalog:
        whole = table.sql(dialect="spark")
        raise invalid(
            text,
            f"{whole!r} is no table of the lake: they have one name, in backquotes if there are "
            "dots or dashes in it",
        )
    if table.args.get("when") or table.args.get("version"):
        raise invalid(text, "it reads old versions: read(version=) does")
    try:
        return check_table_name(table.name)
    except InvalidTableName as exc:
        raise invalid(text, exc.message) from exc


def invalid(text: str, reason: str) -> InvalidExpression:
    """Make the error for a statement."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return InvalidExpression(f"sql={shown!r}: {reason}", details={"reason": reason})
