"""The requests of one cell of the matrix, and what its table must hold afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from deltaq.client import Client, DeltaqError, DuplicateKeys, InvalidExpression, SchemaMismatch
from deltaq.tasks.location import Location

Row = tuple[int, str]


class Operation(StrEnum):
    """What the request does that the fault hits."""

    APPEND = "append"
    MERGE = "merge"
    OVERWRITE = "overwrite"
    DELETE = "delete"
    CREATE = "create"  # an append that makes the table


class Part(StrEnum):
    """The requests on each table, in this order."""

    TARGET = "target"  # the operation of the cell
    FOLLOWING = "following"  # an append, in one commit with the target if that is one, too
    BAD = "bad"  # an operation like the target that must fail
    LAST = "last"
    LATER = "later"  # submitted when the fault has happened


#: What the bad request of each operation comes back with.
REFUSALS: dict[Operation, type[DeltaqError]] = {
    Operation.APPEND: SchemaMismatch,
    Operation.CREATE: SchemaMismatch,
    Operation.OVERWRITE: SchemaMismatch,
    Operation.MERGE: DuplicateKeys,
    Operation.DELETE: InvalidExpression,
}
_BASE = [(n, "base") for n in range(10)]
_FRESH: dict[Part, list[Row]] = {
    part: [(100 * n + i, part) for i in range(3)] for n, part in enumerate(Part, 1)
}
_MERGED = [(n, "merged") for n in range(5, 15)]


def make_table(path: Location, operation: Operation) -> None:
    """Make the table that the operation needs, as somebody else would."""
    if operation is not Operation.CREATE:
        write_deltalake(str(path), _frame(_BASE))


def request_id(table: str, part: Part) -> str:
    return f"{table}-{part}"


def submit(client: Client, table: str, operation: Operation, part: Part) -> Any:
    """Submit one request, which may be done again: its id is always the same."""
    identity = request_id(table, part)
    if part is Part.BAD:
        return _submit_bad(client, table, operation, identity)
    if part is Part.TARGET:
        match operation:
            case Operation.MERGE:
                return client.merge(table, _frame(_MERGED), keys=["id"], request_id=identity)
            case Operation.OVERWRITE:
                return client.overwrite(table, _frame(_FRESH[part]), request_id=identity)
            case Operation.DELETE:
                return client.delete(table, where="id < 5", request_id=identity)
    return client.append(table, _frame(_FRESH[part]), request_id=identity)


def _submit_bad(client: Client, table: str, operation: Operation, identity: str) -> Any:
    extra = _frame(_BASE).append_column("extra", pa.array(range(len(_BASE))))
    match operation:
        case Operation.MERGE:
            twice = _frame([*_MERGED, *_MERGED])
            return client.merge(table, twice, keys=["id"], request_id=identity)
        case Operation.OVERWRITE:
            return client.overwrite(table, extra, request_id=identity)
        case Operation.DELETE:
            return client.delete(table, where="nowhere = 1", request_id=identity)
    return client.append(table, extra, request_id=identity)


def rows_after(operation: Operation, parts: Iterable[Part]) -> list[Row]:
    """Apply the parts one after another to a list of rows; sorted."""
    rows = [] if operation is Operation.CREATE else list(_BASE)
    for part in parts:
        if part is Part.BAD:
            continue
        match operation if part is Part.TARGET else Operation.APPEND:
            case Operation.MERGE:
                keys = {key for key, _ in _MERGED}
                rows = [row for row in rows if row[0] not in keys] + _MERGED
            case Operation.OVERWRITE:
                rows = list(_FRESH[part])
            case Operation.DELETE:
                rows = [row for row in rows if row[0] >= 5]
            case _:
                rows += _FRESH[part]
    return sorted(rows)


def _frame(rows: list[Row]) -> pa.Table:
    return pa.table({"id": [n for n, _ in rows], "made_by": [str(text) for _, text in rows]})
