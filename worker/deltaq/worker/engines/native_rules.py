"""Which rule of a table a row broke; delta-rs only tells that one did."""

from __future__ import annotations

from collections.abc import Iterable

from deltaq.tasks.errors import ConstraintViolated
from deltaq.tasks.location import Location
from deltaq.tasks.request import Overwrite
from deltaq.tasks.staging import open_staged
from deltaq.worker.engines.columns import outside_where
from deltaq.worker.engines.handles import Handle
from deltaq.worker.engines.native_limits import constraints
from deltaq.worker.groups import CommitGroup


def broken_rule(
    handle: Handle, group: CommitGroup, paths: Iterable[Location]
) -> ConstraintViolated:
    """Make the error for a group of which a row breaks a rule.

    Args:
        handle: The table.
        group: What was to be committed.
        paths: Its staged files.
    """
    name = group.table
    for field in handle.schema:
        if not field.nullable and (rows := _count_nulls(paths, field.name)):
            return ConstraintViolated(
                f"table {name}: column {field.name!r} is null, and must not be",
                table=name,
                details={"column": field.name, "rows": rows},
            )
    rules = [f"{rule} ({text})" for rule, text in constraints(handle.existing()).items()]
    request = group.first
    if isinstance(request, Overwrite) and request.where is not None:
        if not rules:
            return outside_where(request)
        rules.append(f"where={request.where!r}, for only such rows are replaced")
    told = " or ".join(rules) or "one on what its columns hold"
    return ConstraintViolated(
        f"table {name}: a row breaks a rule: {told}", table=name, details={"rules": rules}
    )


def _count_nulls(paths: Iterable[Location], column: str) -> int:
    rows = 0
    for path in paths:
        with open_staged(path) as file:
            if column in file.schema_arrow.names:
                rows += file.read(columns=[column]).column(0).null_count
    return rows
