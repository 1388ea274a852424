"""What Spark's commits say of the rows that they changed."""

from __future__ import annotations

from deltaq.tasks.location import Location
from deltaq.tasks.request import Append, Create, Delete, Maintenance, Overwrite, TableChange
from deltaq.worker.durable import read_commit
from deltaq.worker.engines import RowCounts
from deltaq.worker.groups import CommitGroup


def counts(group: CommitGroup, table: Location, version: int) -> tuple[RowCounts, ...]:
    """Tell what each member of a group did, in order, by the metrics of its commit."""
    request = group.first
    if isinstance(request, Append):
        return tuple(RowCounts(inserted=r.rows) for r in group.requests if isinstance(r, Append))
    if len(group.members) > 1:
        # Of several merges in one commit, none can tell which rows were its own.
        return (RowCounts(),) * len(group.members)
    if isinstance(request, Create | TableChange | Maintenance):
        return (RowCounts(),)
    metrics = _metrics(table, version)
    if isinstance(request, Overwrite):
        return (RowCounts(inserted=request.rows, deleted=metrics.get("numDeletedRows")),)
    if isinstance(request, Delete):
        return (RowCounts(deleted=metrics.get("numDeletedRows", 0)),)
    if "numOutputRows" in metrics and "numTargetRowsInserted" not in metrics:  # it was created
        return (RowCounts(inserted=metrics["numOutputRows"], updated=0, deleted=0),)
    return (
        RowCounts(
            inserted=metrics.get("numTargetRowsInserted"),
            updated=metrics.get("numTargetRowsUpdated"),
            deleted=metrics.get("numTargetRowsDeleted"),
        ),
    )


def _metrics(table: Location, version: int) -> dict[str, int]:
    for action in read_commit(table, version):
        if "commitInfo" in action:
            told = action["commitInfo"].get("operationMetrics", {})
            return {name: int(value) for name, value in told.items() if value.isdigit()}
    return {}
