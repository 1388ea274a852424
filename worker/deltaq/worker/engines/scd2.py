"""Versions of rows: what a slowly changing dimension of type 2 becomes by a frame.

Both engines hand over the frame and the current versions of its keys, and get the source of one
MERGE: for each version that ends, a row with its keys in columns of their own, which match it;
for each that begins, a row without them, which matches nothing and is inserted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deltaq.tasks.errors import ConstraintViolated, InvalidFrame, SchemaMismatch
from deltaq.tasks.request import MergeScd2
from deltaq.worker.engines.delta_types import delta_name
from deltaq.worker.engines.fit import comparable_keys, created_fields, fit_schema

#: Type of the times that are not the frame's own.
_TIME = pa.timestamp("us", "UTC")
_OURS, _THEIRS = "frame row", "table row"


def match_column(place: int) -> str:
    """Name the source's column with the key at a place, by which versions that end are found."""
    return f"__deltaq_key_{place}"


@dataclass(frozen=True, kw_only=True)
class Versions:
    """The columns of a table of versions.

    Attributes:
        request: What is to be merged.
        frame: The frame's columns, fitted to the table.
        table: The table's columns, all nullable.
    """

    request: MergeScd2
    frame: pa.Schema
    table: pa.Schema

    @property
    def tracked(self) -> list[str]:
        """The columns whose change makes a new version."""
        if self.request.track is not None:
            return list(self.request.track)
        left_out = {*self.request.keys, self.request.valid_from}
        return [name for name in self.frame.names if name not in left_out]

    @property
    def compared(self) -> list[str]:
        """The columns of current versions that :func:`merge_source` needs."""
        return [*self.request.keys, *self.tracked, self.request.valid_from]


def versions_of(request: MergeScd2, staged: pa.Schema, table: pa.Schema | None) -> Versions:
    """Fit a frame to a table of versions, which is made from it if there is none.

    Raises:
        InvalidFrame: It has a column that is not its to fill, or that Delta cannot hold.
        SchemaMismatch: Frame and table do not fit, or it is no table of versions.
    """
    name = request.table
    for column in (request.valid_to, request.is_current):
        if column in staged.names:
            raise InvalidFrame(
                f"column {column!r} of table {name} says when a version ended; the frame cannot "
                "bring it: leave it out, or name another with valid_to= or is_current=",
                table=name,
                details={"column": column},
            )
    if table is None:
        fields = created_fields(staged, staged.names, name)
        frame = fit_schema(staged, None, name=name)
        if request.valid_from not in staged.names:
            fields.append(pa.field(request.valid_from, _TIME))
        since = pa.schema(fields).field(request.valid_from).type
        fields += [pa.field(request.valid_to, since), pa.field(request.is_current, pa.bool_())]
        return Versions(request=request, frame=frame, table=pa.schema(fields))
    _check_table(request, table)
    frame = fit_schema(staged, table, name=name)
    brought = {*frame.names, request.valid_from, request.valid_to, request.is_current}
    if lacking := [column for column in table.names if column not in brought]:
        raise SchemaMismatch(
            f"table {name}: the frame lacks {', '.join(map(repr, lacking))}, which a new version "
            "needs",
            table=name,
            details={"missing": lacking},
        )
    whole = fit_schema(table, table, name=name)
    return Versions(request=request, frame=frame, table=whole)


def first_versions(versions: Versions, rows: pa.Table) -> pa.Table:
    """Make the rows of a new table: each row of the frame is current.

    Raises:
        ConstraintViolated: A row has a null key or no time to begin at.
    """
    _check_rows(versions, rows)
    return _begun(versions, rows, _since(versions, rows))


def matching(current: pa.Table, rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Keep those current versions whose keys the frame has."""
    wanted = comparable_keys(rows.select(list(keys)).rename_columns(_positions(keys)))
    numbered = _numbered(current, keys, _THEIRS)
    found = numbered.join(wanted, _positions(keys), join_type="left semi")
    return current.take(found[_THEIRS].sort())


def merge_source(versions: Versions, rows: pa.Table, current: pa.Table) -> pa.Table:
    """Make the source of the MERGE; no rows when nothing changes.

    Args:
        versions: The columns.
        rows: The frame, fitted.
        current: ``versions.compared`` of the current versions of its keys.

    Raises:
        ConstraintViolated: A row has a null key, or does not begin after the current version, or
            the table has two current versions of a key.
    """
    _check_rows(versions, rows)
    request, keys = versions.request, versions.request.keys
    pairs = _numbered(rows, keys, _OURS).join(
        _numbered(current, keys, _THEIRS), _positions(keys), join_type="inner"
    )
    pairs = pairs.sort_by(_OURS)
    ours, theirs = pairs[_OURS].combine_chunks(), pairs[_THEIRS].combine_chunks()
    if len(pc.unique(ours)) < len(ours):
        raise ConstraintViolated(
            f"table {request.table}: a key has more than one version with {request.is_current!r}; "
            "it was changed by something else",
            table=request.table,
        )
    changed = pa.array([False] * len(pairs), pa.bool_())
    for column in versions.tracked:
        before, after = current[column].take(theirs), rows[column].take(ours)
        changed = pc.or_(changed, _differs(before.combine_chunks(), after.combine_chunks()))
    ours, theirs = ours.filter(changed), theirs.filter(changed)
    is_new = pc.invert(pc.is_in(pa.array(range(len(rows)), pa.int64()), pairs[_OURS]))
    new = rows.filter(is_new)
    ended = rows.take(ours)
    since = _after(versions, ended, current[request.valid_from].take(theirs).combine_chunks())
    begun = [_begun(versions, ended, since), _begun(versions, new, _since(versions, new))]
    matched = [ended[key] for key in keys]
    return pa.concat_tables(
        [_ended(versions, matched, since), *(_unmatched(versions, table) for table in begun)]
    )


def _check_table(request: MergeScd2, table: pa.Schema) -> None:
    times = (request.valid_from, request.valid_to)
    lacking = [c for c in (*times, request.is_current) if c not in table.names]
    problems = [f"has no column {column!r}" for column in lacking]
    if not lacking:
        since, until = (table.field(column).type for column in times)
        if since != until or not (pt.is_timestamp(since) or pt.is_date(since)):
            problems.append(
                f"has {times[0]!r} as {delta_name(since)} and {times[1]!r} as "
                f"{delta_name(until)}, not as times of one type"
            )
        if not pt.is_boolean(table.field(request.is_current).type):
            problems.append(f"has no boolean {request.is_current!r}")
    if problems:
        raise SchemaMismatch(
            f"table {request.table} keeps no versions: it {'; '.join(problems)}; merge_scd2 makes "
            "such a table when there is none",
            table=request.table,
            details={"problems": problems},
        )


def _check_rows(versions: Versions, rows: pa.Table) -> None:
    request = versions.request
    required = list(request.keys)
    if request.valid_from in versions.frame.names:
        required.append(request.valid_from)
    for column in required:
        if nulls := rows[column].null_count:
            raise ConstraintViolated(
                f"table {request.table}: column {column!r} is null in {nulls} rows of the frame; "
                "a version has keys and a time at which it begins",
                table=request.table,
                details={"column": column, "rows": nulls},
            )


def _since(versions: Versions, rows: pa.Table) -> pa.Array:
    """Tell when the versions of the frame begin."""
    request = versions.request
    if request.valid_from in rows.column_names:
        return rows[request.valid_from].combine_chunks()
    kind = versions.table.field(request.valid_from).type
    if not pt.is_timestamp(kind):
        raise SchemaMismatch(
            f"table {request.table} keeps {request.valid_from!r} as {delta_name(kind)}; the frame "
            "must have it",
            table=request.table,
        )
    at = pa.scalar(request.submitted_at_ms * 1000, pa.int64()).cast(kind)
    return pa.repeat(at, len(rows))


def _after(versions: Versions, rows: pa.Table, current: pa.Array) -> pa.Array:
    """Tell when versions begin that end current ones, which began earlier.

    Raises:
        ConstraintViolated: The frame says that one does not.
    """
    request = versions.request
    since = _since(versions, rows)
    if request.valid_from not in rows.column_names:
        # Clocks of writers differ; the order is that of their requests.
        earliest = pc.add(current.cast(pa.int64()), 1)
        return pc.max_element_wise(since.cast(pa.int64()), earliest).cast(current.type)
    late = pc.fill_null(pc.less_equal(since, current), False)
    if not pc.any(late).as_py():
        return since
    row = rows.filter(late).slice(0, 1)
    told = ", ".join(f"{key}={row[key][0].as_py()!r}" for key in request.keys)
    raise ConstraintViolated(
        f"table {request.table}: the row with {told} begins at "
        f"{row[request.valid_from][0].as_py()}, and the current version not before that; "
        "leave out what is older than the table",
        table=request.table,
        details={"rows": pc.sum(late).as_py()},
    )


def _begun(versions: Versions, rows: pa.Table, since: pa.Array) -> pa.Table:
    request, count = versions.request, len(rows)
    columns = {name: rows[name] for name in versions.frame.names}
    columns[request.valid_from] = since
    columns[request.valid_to] = pa.nulls(count, versions.table.field(request.valid_to).type)
    columns[request.is_current] = pa.repeat(True, count)
    return pa.table([columns[name] for name in versions.table.names], schema=versions.table)


def _unmatched(versions: Versions, begun: pa.Table) -> pa.Table:
    schema = source_schema(versions)
    keys = [pa.nulls(len(begun), f.type) for f in list(schema)[: len(versions.request.keys)]]
    return pa.table([*keys, *begun.columns], schema=schema)


def _ended(versions: Versions, keys: list[pa.ChunkedArray], until: pa.Array) -> pa.Table:
    request, count = versions.request, len(until)
    columns = {
        request.valid_to: until,
        request.is_current: pa.repeat(False, count),
    }
    others = [
        columns[f.name] if f.name in columns else pa.nulls(count, f.type) for f in versions.table
    ]
    return pa.table([*keys, *others], schema=source_schema(versions))


def source_schema(versions: Versions) -> pa.Schema:
    """Say which columns the source of the MERGE has: keys to match by, then the table's."""
    kinds = (versions.table.field(key).type for key in versions.request.keys)
    keys = [pa.field(match_column(place), kind) for place, kind in enumerate(kinds)]
    return pa.schema([*keys, *versions.table])


def _differs(before: pa.Array, after: pa.Array) -> pa.Array:
    """Compare values; null equals null, and NaN equals NaN."""
    if pt.is_nested(before.type):
        pairs = zip(before.to_pylist(), after.to_pylist(), strict=True)
        return pa.array([one != other for one, other in pairs], pa.bool_())
    one_null = pc.not_equal(pc.is_null(before), pc.is_null(after))
    differs = pc.not_equal(before, after)
    if pt.is_floating(before.type):
        differs = pc.and_not(differs, pc.and_(pc.is_nan(before), pc.is_nan(after)))
    return pc.or_(one_null, pc.fill_null(differs, False))


def _numbered(rows: pa.Table, keys: Sequence[str], name: str) -> pa.Table:
    """Take keys in comparable form, beside the numbers of their rows."""
    compared = comparable_keys(rows.select(list(keys)).rename_columns(_positions(keys)))
    return compared.append_column(name, pa.array(range(len(rows)), pa.int64()))


def _positions(keys: Sequence[str]) -> list[str]:
    return [f"key {n}" for n in range(len(keys))]
