"""Schemas of tables as callers write them: of pyarrow, or types in Spark's SQL by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.types as pt

from deltaq.client.frames import check_names, column_type
from deltaq.tasks.errors import InvalidRequest
from deltaq.tasks.request import Column
from deltaq.tasks.type_names import TYPE_NAMES

#: A type of pyarrow, or text such as ``"decimal(10, 2)"``.
Type: TypeAlias = pa.DataType | str
TableSchema: TypeAlias = pa.Schema | Mapping[str, Type]

_NOT_NULL = re.compile(r"\s+not\s+null\s*$", re.IGNORECASE)


def columns_of(schema: TableSchema) -> tuple[Column, ...]:
    """Turn a schema into the columns of a table.

    Raises:
        InvalidFrame: Names clash, or Delta has no such type.
        InvalidRequest: It is no schema.
    """
    if isinstance(schema, pa.Schema):
        columns = tuple(_column_of(field) for field in schema)
    elif isinstance(schema, Mapping):
        columns = tuple(column_of(name, kind) for name, kind in schema.items())
    else:
        raise InvalidRequest(
            f"a schema is a pyarrow.Schema or a dict such as {{'price': 'double'}}, not {schema!r}"
        )
    check_names([column.name for column in columns])
    return columns


def column_of(name: str, kind: Type, comment: str | None = None) -> Column:
    """Make a column of a name and a type.

    Raises:
        InvalidFrame: Delta has no such type.
        InvalidRequest: An argument is no name, no type or no text.
    """
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{name!r} is no column name")
    if comment is not None and not isinstance(comment, str):
        raise InvalidRequest(f"column {name!r}: a comment is text, not {comment!r}")
    if isinstance(kind, pa.DataType):
        return _column_of(pa.field(name, kind), comment)
    if not isinstance(kind, str) or not kind.strip():
        raise InvalidRequest(
            f"column {name!r}: a type is one of pyarrow, or text such as 'bigint', not {kind!r}"
        )
    text = _NOT_NULL.sub("", kind.strip())
    return Column(name=name, type=text, nullable=text == kind.strip(), comment=comment)


def _column_of(field: pa.Field, comment: str | None = None) -> Column:
    told: Any = (field.metadata or {}).get(b"comment")
    if comment is None and told is not None:
        comment = told.decode()
    kind = column_type(field)
    if pt.is_null(kind):
        raise InvalidRequest(f"column {field.name!r}: a table has no column of nulls; give a type")
    return Column(name=field.name, type=_sql_type(kind), nullable=field.nullable, comment=comment)


def _sql_type(kind: pa.DataType) -> str:
    """Write one of Delta's types in Spark's SQL."""
    if pt.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pt.is_list(kind):
        return f"array<{_sql_type(kind.value_type)}>"
    if pt.is_map(kind):
        return f"map<{_sql_type(kind.key_type)},{_sql_type(kind.item_type)}>"
    if pt.is_struct(kind):
        fields = (f"`{f.name.replace('`', '``')}`:{_sql_type(f.type)}" for f in kind)
        return f"struct<{','.join(fields)}>"
    return TYPE_NAMES[kind]
