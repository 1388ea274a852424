"""SELECT statements that mean the same in DataFusion as in Spark, written for DataFusion.

Few do: Spark's SQL and DataFusion's differ in the order of nulls, in what they make of text
beside numbers, in division, overflow, case and the names of columns. So only what is known here
is written: columns, joins on equal columns, conditions as of reads, grouping, counts, sums, means
and extremes, order and limit. The rest is left to Spark;
``tests/integration/test_parity_sql.py`` holds both to the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pt
from sqlglot import exp

from deltaq.tasks.errors import InvalidExpression
from deltaq.tasks.suggest import did_you_mean
from deltaq.worker.engines.delta_types import plain_type
from deltaq.worker.expressions import Translator
from deltaq.worker.selects import Select, invalid

_PARTS: dict[type[exp.Expr], set[str]] = {
    exp.Select: {"expressions", "from_", "joins", "where", "group", "order", "limit"},
    exp.Table: {"this", "alias"},
    exp.Join: {"this", "side", "kind", "using", "on"},
    exp.Group: {"expressions"},
    exp.Ordered: {"this", "desc", "nulls_first"},
}


@dataclass(frozen=True, kw_only=True)
class NativeSelect:
    """A statement of DataFusion.

    Attributes:
        text: The tables are called "t0", "t1" ... in it.
        tables: Their names in the lake, in that order.
        schema: Names and types of the result's columns.
    """

    text: str
    tables: tuple[str, ...]
    schema: pa.Schema


def translate_select(select: Select, schemas: Mapping[str, pa.Schema]) -> NativeSelect:
    """Write a statement in DataFusion's SQL.

    Args:
        select: The statement.
        schemas: The columns of its tables, by name.

    Raises:
        InvalidExpression: A column is not there, or two of the result have one name.
        Untranslatable: It is not known to mean the same.
    """
    return _Writer(select, schemas).write()


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A table in FROM: its place there, the name by which columns call it, its columns."""

    place: int
    alias: str
    schema: pa.Schema
    #: Whether a row may lack it, as on the right of LEFT JOIN.
    optional: bool

    def column(self, name: str) -> tuple[str, pa.Field]:
        """Write one of its columns, and tell its type and whether it may be null."""
        field = self.schema.field(name)
        nullable = field.nullable or self.optional
        return f'"t{self.place}".{_quoted(name)}', field.with_nullable(nullable)


class _Writer(Translator):
    """Writes one statement; a column is written as "t0"."name"."""

    def __init__(self, select: Select, schemas: Mapping[str, pa.Schema]) -> None:
        super().__init__(select.text, pa.schema([]), "sql", "")
        self._select = select
        self._schemas = schemas
        self._sources: list[_Source] = []
        self._tables: list[str] = []
        #: Columns of USING, which are those of the table on the left.
        self._merged: set[str] = set()

    def write(self) -> NativeSelect:
        tree = self._select.tree
        if not isinstance(tree, exp.Select):
            raise self._unknown(tree)
        self._known(tree)
        text = self._from(tree)
        if where := tree.args.get("where"):
            text += f" WHERE {self.condition(where.this)}"
        grouped = self._group(tree)
        fields, written = self._columns(tree, grouped)
        names = [f.name for f in fields]
        for name in names:
            if [n.lower() for n in names].count(name.lower()) > 1:
                raise two_columns(self._select.text, name)
        text = f"SELECT {', '.join(written)}{text}"
        if grouped:
            text += f" GROUP BY {', '.join(sorted(grouped))}"
        text = f"SELECT * FROM ({text}) AS result{self._order(tree, fields)}{self._limit(tree)}"
        return NativeSelect(text=text, tables=tuple(self._tables), schema=pa.schema(fields))

    def _from(self, tree: exp.Select) -> str:
        first = tree.args["from_"].this
        text = f" FROM {self._source(first)}"
        for join in tree.args.get("joins") or ():
            self._known(join)
            side, kind = join.side.upper(), join.kind.upper()
            if side not in ("", "LEFT") or kind not in ("", "INNER", "OUTER"):
                raise self._unknown(join)
            source = self._source(join.this, optional=bool(side))
            if using := join.args.get("using"):
                on = " AND ".join(self._equal(column) for column in using)
            elif isinstance(join.args.get("on"), exp.Expr):
                on = self._pairs(join.args["on"])
            else:
                raise self._unknown(join)
            text += f" {'LEFT' if side else 'INNER'} JOIN {source} ON {on}"
        return text

    def _source(self, table: exp.Expr, *, optional: bool = False) -> str:
        if not isinstance(table, exp.Table):
            raise self._unknown(table)
        self._known(table)
        alias = table.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            raise self._unknown(table)
        name = table.alias_or_name.lower()
        if any(source.alias == name for source in self._sources):
            raise self._unknown(table)
        place = len(self._sources)
        schema = self._schemas[table.name]
        self._sources.append(_Source(place=place, alias=name, schema=schema, optional=optional))
        self._tables.append(table.name)
        return f'"t{place}"'

    def _equal(self, column: exp.Expr) -> str:
        """Write that a column of USING is equal in the newest table and in one before it."""
        name, right = column.name, self._sources[-1]
        left = [s for s in self._sources[:-1] if name in s.schema.names]
        if name not in right.schema.names or (len(left) != 1 and name not in self._merged):
            raise self._unknown(column)
        (one, one_field), (other, other_field) = left[0].column(name), right.column(name)
        self._check_key(one_field, other_field, column)
        self._merged.add(name)
        return f"{one} = {other}"

    def _pairs(self, on: exp.Expr) -> str:
        """Write a condition that pairs of columns are equal."""
        if isinstance(on, exp.Paren):
            return self._pairs(on.this)
        if isinstance(on, exp.And):
            return f"{self._pairs(on.left)} AND {self._pairs(on.right)}"
        if not isinstance(on, exp.EQ):
            raise self._unknown(on)
        (left, left_field), (right, right_field) = self._find(on.left), self._find(on.right)
        self._check_key(left_field, right_field, on)
        return f"{left} = {right}"

    def _check_key(self, left: pa.Field, right: pa.Field, node: exp.Expr) -> None:
        kind = left.type
        if plain_type(kind) != plain_type(right.type) or pt.is_floating(kind):
            raise self._unknown(node)
        if pt.is_nested(kind) or pt.is_binary(kind):
            raise self._unknown(node)

    def _group(self, tree: exp.Select) -> set[str]:
        group = tree.args.get("group")
        if group is None:
            return set()
        self._known(group)
        found = set()
        for node in group.expressions:
            written, field = self._find(node)
            if pt.is_floating(field.type) or pt.is_nested(field.type):
                raise self._unknown(node)
            found.add(written)
        return found

    def _columns(self, tree: exp.Select, grouped: set[str]) -> tuple[list[pa.Field], list[str]]:
        nodes = list(tree.expressions)
        if len(nodes) == 1 and isinstance(nodes[0], exp.Star) and not nodes[0].args.get("except_"):
            found = self._all()
        else:
            found = [self._column_of(node) for node in nodes]
        aggregates = [a for _, _, a in found]
        if grouped or any(aggregates):
            for (written, _, aggregate), node in zip(found, nodes, strict=True):
                if not aggregate and written not in grouped:
                    raise self._unknown(node)
        fields = [pa.field(f.name, plain_type(f.type), f.nullable) for _, f, _ in found]
        return fields, [f"{written} AS {_quoted(f.name)}" for written, f, _ in found]

    def _all(self) -> list[tuple[str, pa.Field, bool]]:
        """List what * means: the columns of USING, then those of each table."""
        if self._merged and len(self._sources) > 2:
            raise self._unknown(self._select.tree)  # the order of several USING is Spark's matter
        left = self._sources[0]
        found = [(left, f) for f in left.schema if f.name in self._merged]
        found += [(s, f) for s in self._sources for f in s.schema if f.name not in self._merged]
        return [(*source.column(field.name), False) for source, field in found]

    def _column_of(self, node: exp.Expr) -> tuple[str, pa.Field, bool]:
        """Write a column of the result; tell its name and type, and whether it aggregates."""
        bare = node.this if isinstance(node, exp.Alias) else node
        if isinstance(bare, exp.Column):
            written, field = self._find(bare)
            return written, field.with_name(node.alias_or_name), False
        if not isinstance(node, exp.Alias):
            raise self._unknown(node)  # the name is Spark's to make
        written, kind = self._aggregate(bare)
        return written, pa.field(node.alias, kind, not isinstance(bare, exp.Count)), True

    def _aggregate(self, node: exp.Expr) -> tuple[str, pa.DataType]:
        if isinstance(node, exp.Count):
            self._only(node, "this", "big_int")
            inner = "*" if isinstance(node.this, exp.Star) else self._find(node.this)[0]
            return f"count({inner})", pa.int64()
        if not isinstance(node, exp.Sum | exp.Avg | exp.Min | exp.Max):
            raise self._unknown(node)
        self._only(node, "this")
        written, field = self._find(node.this)
        kind, word = plain_type(field.type), type(node).__name__.lower()
        if isinstance(node, exp.Min | exp.Max):
            if pt.is_floating(kind) or pt.is_nested(kind) or pt.is_binary(kind):
                raise self._unknown(node)
            return f"{word}({written})", kind
        if pt.is_float64(kind):
            return f"{word}({written})", kind
        # In 64 bits Spark finds an overflow, and DataFusion does not.
        if isinstance(node, exp.Sum) and pt.is_integer(kind) and kind.bit_width < 64:
            return f"sum(CAST({written} AS BIGINT))", pa.int64()
        raise self._unknown(node)

    def _order(self, tree: exp.Select, fields: list[pa.Field]) -> str:
        order = tree.args.get("order")
        if order is None:
            return ""
        self._only(order, "expressions")
        kinds = {f.name: f.type for f in fields}
        keys = []
        for node in order.expressions:
            self._known(node)
            column = node.this
            if not isinstance(column, exp.Column) or len(column.parts) != 1:
                raise self._unknown(node)
            if column.name not in kinds:
                raise self._unknown(node)
            kind, key = kinds[column.name], _quoted(column.name)
            if pt.is_nested(kind):
                raise self._unknown(node)
            if pt.is_floating(kind):
                name = "DOUBLE" if pt.is_float64(kind) else "REAL"
                key = f"nanvl({key} + CAST(0 AS {name}), CAST('NaN' AS {name}))"
            way = "DESC" if node.args.get("desc") else "ASC"
            nulls = "FIRST" if node.args.get("nulls_first") else "LAST"
            keys.append(f"{key} {way} NULLS {nulls}")
        return f" ORDER BY {', '.join(keys)}"

    def _limit(self, tree: exp.Select) -> str:
        limit = tree.args.get("limit")
        if limit is None:
            return ""
        number = limit.args.get("expression")
        if not isinstance(limit, exp.Limit) or not isinstance(number, exp.Literal):
            raise self._unknown(limit)
        if number.is_string or not number.name.isdigit():
            raise self._unknown(limit)
        return f" LIMIT {number.name}"

    def _column(self, node: exp.Expr) -> tuple[str, pa.DataType]:
        written, field = self._find(node)
        return written, field.type

    def _find(self, node: exp.Expr) -> tuple[str, pa.Field]:
        """Find the one column that a node names, spelled as the table spells it."""
        if not isinstance(node, exp.Column) or len(node.parts) > 2:
            raise self._unknown(node)
        of, name = node.table.lower(), node.name
        sources = [s for s in self._sources if of in ("", s.alias) and name in s.schema.names]
        if name in self._merged and not of:
            sources = sources[:1]
        if len(sources) != 1:
            self._require_somewhere(node)
            raise self._unknown(node)  # Spark's words are the better ones
        return sources[0].column(name)

    def _require_somewhere(self, column: exp.Column) -> None:
        """Refuse a name that neither a table nor the result has: there may be no Spark to do so."""
        names = [name for source in self._sources for name in source.schema.names]
        given = [node.alias for node in self._select.tree.expressions if node.alias]
        known = {name.lower() for name in (*names, *given)}
        # Of "a.b" the first may be a struct; what begins so may be one of Spark's own, as _metadata.
        if column.table or column.name.startswith("_") or column.name.lower() in known:
            return
        near = did_you_mean(column.name, names)
        raise invalid(self._select.text, f"there is no column {column.name!r}{near}")

    def _known(self, node: exp.Expr) -> None:
        self._only(node, *_PARTS[type(node)])


def two_columns(text: str, name: str) -> InvalidExpression:
    """Make the error for a result in which two columns have one name."""
    return invalid(text, f"two columns of the result are called {name!r}: give one an alias")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
