"""What the native engine leaves to Spark, told from a table's protocol and schema."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import pyarrow as pa
import pyarrow.types as pt
from deltalake import DeltaTable
from sqlglot import tokenize
from sqlglot.errors import SqlglotError

from deltaq.tasks.errors import InvalidExpression
from deltaq.worker.engines import NotNative
from deltaq.worker.engines.delta_types import delta_name
from deltaq.worker.expressions import translate

_CONSTRAINT = "delta.constraints."
#: Features that delta-rs writes, or that only matter when a column uses them (below).
_WRITABLE = frozenset(
    {
        *("appendOnly", "invariants", "checkConstraints", "changeDataFeed", "columnMapping"),
        *("deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"),
        *("generatedColumns", "identityColumns", "allowColumnDefaults"),
    }
)
#: Metadata of a column whose values Spark computes or checks.
_COLUMN_RULES = {
    b"delta.generationExpression": "generated columns",
    b"delta.identity.start": "identity columns",
    b"delta.invariants": "column invariants",
    b"CURRENT_DEFAULT": "columns with defaults",
    b"__CHAR_VARCHAR_TYPE_STRING": "char and varchar columns",
}
#: Spellings that DataFusion reads otherwise than Spark.
_SPARK_ONLY = re.compile(r"[\"`\\]|<=>|==")


def check_writable(table: DeltaTable, schema: pa.Schema) -> None:
    """Check that delta-rs would write a table as Spark would.

    Raises:
        NotNative: It would not.
    """
    if foreign := sorted(features(table) - _WRITABLE):
        raise NotNative(f"the table has {', '.join(foreign)}", of_table=True)
    for field in schema:
        for key, rule in _COLUMN_RULES.items():
            if field.metadata and key in field.metadata:
                raise NotNative(f"the table has {rule}", of_table=True)
    check_partition_types(schema, table.metadata().partition_columns)
    for name, text in constraints(table).items():
        if not _reads_the_same(text, schema):
            raise NotNative(f"constraint {name} is for Spark to evaluate: {text}", of_table=True)


def features(table: DeltaTable) -> frozenset[str]:
    """Name the writer features that a table lists; older protocols list none."""
    return frozenset(table.protocol().writer_features or ())


def check_evolvable(table: DeltaTable) -> None:
    """Check that delta-rs adds columns to a table as Spark would.

    Raises:
        NotNative: It would give them no id to be mapped by, or leave them out of the changes.
    """
    if maps_columns(table):
        raise NotNative("new columns of a table with column mapping")
    properties = table.metadata().configuration
    if properties.get("delta.enableChangeDataFeed") == "true":
        raise NotNative("new columns of a table with a change data feed")


def maps_columns(table: DeltaTable) -> bool:
    """Tell whether a table's files have other names for its columns."""
    return str(table.metadata().configuration.get("delta.columnMapping.mode", "none")) != "none"


def check_partition_types(schema: pa.Schema, partitions: Sequence[str]) -> None:
    """Check that delta-rs writes the values of partition columns as Delta has them.

    Raises:
        NotNative: It makes 0.0-1 of the decimal -0.1, and names too long of large doubles.
    """
    for column in partitions:
        kind = schema.field(column).type
        if pt.is_decimal(kind) or pt.is_floating(kind):
            raise NotNative(f"it is partitioned by a {delta_name(kind)}", of_table=True)


def constraints(table: DeltaTable) -> dict[str, str]:
    """Return the CHECK constraints of a table by name."""
    properties = table.metadata().configuration
    return {
        key.removeprefix(_CONSTRAINT): text
        for key, text in sorted(properties.items())
        if key.startswith(_CONSTRAINT)
    }


@lru_cache(maxsize=256)
def _reads_the_same(text: str, schema: pa.Schema) -> bool:
    """Tell whether DataFusion, which gets the text as it is, reads it as Spark does."""
    if _SPARK_ONLY.search(text):
        return False
    try:
        translate(text, schema, what="constraint")
        words = [t.text for t in tokenize(text, dialect="spark") if t.token_type.name == "VAR"]
    except (NotNative, InvalidExpression, SqlglotError):
        return False
    # Without quotes DataFusion looks for the name in lower case, or as it is.
    return all(word in schema.names and word == word.lower() for word in words)
