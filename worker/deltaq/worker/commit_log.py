"""The line that each commit leaves in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from deltaq.tasks.outcome import Outcome
from deltaq.tasks.request import operation_of
from deltaq.worker.aside import Aside
from deltaq.worker.observers import GroupCommitted, Observer

logger = logging.getLogger(__name__)

#: Ids of requests that one line names, besides the last: 500 would be cut off by what collects
#: logs of containers, at 16 KB. Which commit has a request, its outcome and the history tell.
_MOST_IDS = 20


class CommitLog(Observer):
    """Logs commits in a thread of its own, which a full pipe may hold up. Close it to end that."""

    def __init__(self) -> None:
        self._aside = Aside(_log, name="commit-log")
        self.close = self._aside.close

    def group_committed(self, commit: GroupCommitted) -> None:
        """Have a commit logged."""
        if logger.isEnabledFor(logging.INFO):
            self._aside.put(commit)


def _log(commit: GroupCommitted) -> None:
    facts = facts_of(commit)
    logger.info("%s", _sentence(facts), extra=facts)


def facts_of(commit: GroupCommitted) -> dict[str, Any]:
    """List what a line of JSON tells of a commit; what an engine could not count is null."""
    group, outcomes = commit.group, commit.outcomes
    ids = [request.request_id for request in group.requests[:_MOST_IDS]]
    return {
        "action": "committed",
        "table": group.table,
        "lane": str(group.lane),
        "operation": operation_of(group.first),
        "version": commit.performed.commit.version,
        "engine": commit.performed.engine,
        "engine_reason": commit.performed.reason,
        "requests": len(outcomes),
        "rows": _sum(outcome.rows for outcome in outcomes),
        "inserted": _sum(outcome.inserted for outcome in outcomes),
        "updated": _sum(outcome.updated for outcome in outcomes),
        "deleted": _sum(outcome.deleted for outcome in outcomes),
        "size_bytes": sum(request.size_bytes for request in group.requests),
        "attempt": commit.attempt,
        "sequence": group.sequence,
        "waited_seconds": _longest(outcomes),
        "commit_seconds": commit.commit_seconds,
        "request_ids": ids,
        "last_request_id": group.requests[-1].request_id,
    }


def _sentence(facts: dict[str, Any]) -> str:
    count, ids = facts["requests"], facts["request_ids"]
    what = facts["operation"] if count == 1 else f"{count} x {facts['operation']}"
    rows = "" if facts["rows"] is None else f"{facts['rows']} rows, "
    version = "" if facts["version"] is None else f" in version {facts['version']}"
    more = count - len(ids)
    rest = f" and {more} more to {facts['last_request_id']}" if more else ""
    return (
        f"table {facts['table']}: {what} committed{version} by {facts['engine'] or 'deltaq'}: "
        f"{rows}waited {facts['waited_seconds']:.3f} s, took {facts['commit_seconds']:.3f} s; "
        f"{' '.join(ids)}{rest}"
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _longest(outcomes: Iterable[Outcome]) -> float:
    return max((outcome.waited_seconds or 0.0 for outcome in outcomes), default=0.0)
