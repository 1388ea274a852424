"""Schemas as JSON, which Delta's log and Spark share, to Arrow and back."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from deltaq.tasks.errors import EngineRefused

_ARROW = {
    "byte": pa.int8(),
    "short": pa.int16(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "timestamp_ntz": pa.timestamp("us"),
    "void": pa.null(),
}
_JSON = {kind: name for name, kind in _ARROW.items()}


def arrow_schema(text: str) -> pa.Schema:
    """Turn a table's schema, as its log has it, into Arrow's.

    Raises:
        EngineRefused: A column has a type that frames cannot hold.
    """
    return pa.schema([_arrow_field(field) for field in json.loads(text)["fields"]])


def spark_schema(schema: pa.Schema) -> dict[str, Any]:
    """Turn a schema of Delta's types into the JSON value that Spark reads, all nullable."""
    return _json_type(pa.struct(list(schema)))  # type: ignore[return-value]  # a struct's is a dict


def _arrow_field(field: dict[str, Any]) -> pa.Field:
    return pa.field(field["name"], _arrow_type(field["type"]), nullable=field["nullable"])


def _arrow_type(kind: str | dict[str, Any]) -> pa.DataType:
    if isinstance(kind, str):
        if kind in _ARROW:
            return _ARROW[kind]
        if kind.startswith("decimal("):
            precision, scale = kind.removeprefix("decimal(").removesuffix(")").split(",")
            return pa.decimal128(int(precision), int(scale))
    elif kind["type"] == "struct":
        return pa.struct([_arrow_field(f) for f in kind["fields"]])
    elif kind["type"] == "array":
        element = pa.field("element", _arrow_type(kind["elementType"]))
        return pa.list_(element)
    elif kind["type"] == "map":
        return pa.map_(_arrow_type(kind["keyType"]), _arrow_type(kind["valueType"]))
    raise EngineRefused(f"the table has a column of type {kind}, which no frame can hold")


def _json_type(kind: pa.DataType) -> str | dict[str, Any]:
    if pt.is_struct(kind):
        fields = [
            {"name": f.name, "type": _json_type(f.type), "nullable": True, "metadata": {}}
            for f in kind
        ]
        return {"type": "struct", "fields": fields}
    if pt.is_list(kind):
        return {"type": "array", "elementType": _json_type(kind.value_type), "containsNull": True}
    if pt.is_map(kind):
        return {
            "type": "map",
            "keyType": _json_type(kind.key_type),
            "valueType": _json_type(kind.item_type),
            "valueContainsNull": True,
        }
    if pt.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    return _JSON[kind]
