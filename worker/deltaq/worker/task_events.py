"""What Flower is told of requests and tasks, as Celery's task events. Values in, values out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from deltaq.tasks import keys
from deltaq.tasks.backfill import Prepared, Verdict
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.manifest import Manifest
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.query import Query, decode_query, query_name
from deltaq.tasks.request import Lane, Request, operation_of
from deltaq.worker.groups import CommitGroup
from deltaq.worker.outcomes import rows_of

#: Tasks that are remembered to have been told, and groups that may be tried again. More are
#: waiting or under way only where a worker has lost many leases.
_MOST_TOLD, _MOST_OPEN = 50_000, 256
#: Characters of an error's message; Flower keeps a hundred thousand tasks in memory.
_LONGEST = 1000

_TROUBLE = frozenset({"task-failed", "task-revoked", "task-retried"})


class TaskEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of Celery's events; a task is made known by ``task-received``, which names it."""

    type: str
    uuid: str
    hostname: str
    pid: int
    #: Of this machine's clock: Flower takes it for a sign of life of the worker.
    timestamp: float
    name: str | None = None
    args: str | None = None
    kwargs: str | None = None
    result: str | None = None
    runtime: float | None = None
    exception: str | None = None
    #: Of a part: its backfill, which Flower shows as its parent.
    parent_id: str | None = None
    root_id: str | None = None


_encoder = msgspec.json.Encoder()


def encode_events(events: Sequence[TaskEvent]) -> bytes:
    """Write events as the JSON list that Celery's receivers take."""
    return _encoder.encode(events)


class Story:
    """Makes the events of one worker's requests and tasks. For one thread.

    Args:
        hostname: The worker's name; another one would be a worker of its own in Flower.
    """

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        self._pid = os.getpid()
        self._told: dict[str, None] = {}
        self._open: dict[str, list[str]] = {}

    def waiting(self, requests: Iterable[Request], at: float) -> list[TaskEvent]:
        """Tell of requests that no worker has begun with."""
        return [event for r in requests for event in self._known(r.request_id, _facts(r), at)]

    def begun(self, group: CommitGroup, at: float) -> list[TaskEvent]:
        """Tell that the requests of a group are being applied."""
        self._open[group.table] = [r.request_id for r in group.requests]
        _forget_oldest(self._open, _MOST_OPEN)
        events = self.waiting(group.requests, at)
        events += [self._event("started", r.request_id, at) for r in group.requests]
        return events

    def retried(self, table: str, reason: str, at: float) -> list[TaskEvent]:
        """Tell that the group of a table that was begun last failed and is tried again."""
        return [
            self._event("retried", request_id, at, exception=reason[:_LONGEST])
            for request_id in self._open.get(table, ())
        ]

    def settled(
        self, lane: Lane, outcomes: Sequence[Outcome], requests: Sequence[Request], at: float
    ) -> list[TaskEvent]:
        """Tell what became of requests of one table."""
        self._open.pop(outcomes[0].table, None)
        events: list[TaskEvent] = []
        for number, outcome in enumerate(outcomes):
            facts = _facts(requests[number]) if requests else _facts_of(outcome, lane)
            events += self._known(outcome.request_id, facts, at)
            events.append(self._end(outcome, outcome.request_id, at))
        return events

    def lost(self, table: str) -> list[TaskEvent]:
        """Leave the telling of what becomes of a table's requests to its next committer."""
        for request_id in self._open.pop(table, ()):
            self._told.pop(request_id, None)
        return []

    def answered(self, query: Query, outcome: Outcome, at: float) -> list[TaskEvent]:
        """Tell of a query that was answered after the task that took it had ended."""
        facts = (f"deltaq.{query_name(query)}", repr({"table": query.table}))
        events = self._known(query.request_id, facts, at)
        return [*events, self._end(outcome, query.request_id, at)]

    def task_began(
        self, task_id: str, name: str, args: Sequence[object], at: float
    ) -> list[TaskEvent]:
        """Tell that a Celery task runs."""
        about = _DESCRIBED.get(name, _nothing)(args)
        events = self._known(task_id, (name, repr(about)), at)
        return [*events, self._event("started", task_id, at)]

    def task_ended(
        self,
        task_id: str,
        at: float,
        *,
        seconds: float,
        error: object = None,
        answer: Outcome | None = None,
    ) -> list[TaskEvent]:
        """Tell that a Celery task has ended, with an error or with the answer to a query."""
        if error is not None:
            self._told.pop(task_id, None)
            reason = error.code if isinstance(error, DeltaqError) else type(error).__name__
            text = f"{reason}: {error}"[:_LONGEST]
            return [self._event("failed", task_id, at, exception=text)]
        if answer is not None:
            return [self._end(answer, task_id, at, seconds=seconds)]
        self._told.pop(task_id, None)
        return [self._event("succeeded", task_id, at, result="done", runtime=seconds)]

    def part_begun(self, manifest: Manifest, part: int, at: float) -> list[TaskEvent]:
        """Tell that a part of a backfill, whose parent it is, is being prepared."""
        parent, uuid = manifest.backfill_id, part_uuid(manifest, part)
        events = self._known(parent, _facts_of_backfill(manifest), at)
        about = {"table": manifest.table, "part": part}
        known = self._known(uuid, (keys.PREPARE_TASK, repr(about)), at)
        replace = msgspec.structs.replace
        events += [replace(event, parent_id=parent, root_id=parent) for event in known]
        return [*events, self._event("started", uuid, at)]

    def part_ended(
        self, manifest: Manifest, part: int, prepared: Prepared | None, at: float
    ) -> list[TaskEvent]:
        """Tell that a part is prepared, or is not."""
        uuid = part_uuid(manifest, part)
        self._told.pop(uuid, None)
        if prepared is None:
            return [self._event("failed", uuid, at, exception="not prepared; see the backfill")]
        result = f"{prepared.rows} rows, {len(prepared.files)} files"
        if prepared.pieces:
            result = f"cut into {len(prepared.pieces)} parts"
        return [self._event("succeeded", uuid, at, result=result, runtime=prepared.seconds)]

    def backfill_given_up(self, manifest: Manifest, verdict: Verdict, at: float) -> list[TaskEvent]:
        """Tell that a backfill failed or was cancelled; one that is adopted is :meth:`settled`."""
        uuid = manifest.backfill_id
        events = self._known(uuid, _facts_of_backfill(manifest), at)
        self._told.pop(uuid, None)
        if verdict.error is None:
            return [*events, self._event("revoked", uuid, at, exception=verdict.ending)]
        text = f"{verdict.error.code}: {verdict.error.message}"[:_LONGEST]
        return [*events, self._event("failed", uuid, at, exception=text)]

    def unsaid(self, uuids: Iterable[str]) -> None:
        """Take note that what was made of these tasks was not sent."""
        for uuid in uuids:
            self._told.pop(uuid, None)

    def forget(self) -> None:
        """Begin anew: who listened has gone."""
        self._told.clear()
        self._open.clear()

    def _known(self, uuid: str, facts: tuple[str, str], at: float) -> list[TaskEvent]:
        """Make a task known, unless it is."""
        if uuid in self._told:
            return []
        self._told[uuid] = None
        _forget_oldest(self._told, _MOST_TOLD)
        name, about = facts
        return [self._event("received", uuid, at, name=name, args="()", kwargs=about)]

    def _end(
        self, outcome: Outcome, uuid: str, at: float, *, seconds: float | None = None
    ) -> TaskEvent:
        self._told.pop(uuid, None)
        match outcome.state:
            case State.FAILED if outcome.error:
                text = f"{outcome.error.code}: {outcome.error.message}"[:_LONGEST]
                return self._event("failed", uuid, at, exception=text)
            case State.CANCELLED | State.EXPIRED:
                text = f"{outcome.state} before a worker began with it"
                return self._event("revoked", uuid, at, exception=text)
        runtime = outcome.commit_seconds if seconds is None else seconds
        return self._event("succeeded", uuid, at, result=_result(outcome), runtime=runtime)

    def _event(
        self,
        what: str,
        uuid: str,
        at: float,
        *,
        name: str | None = None,
        args: str | None = None,
        kwargs: str | None = None,
        result: str | None = None,
        runtime: float | None = None,
        exception: str | None = None,
    ) -> TaskEvent:
        return TaskEvent(
            type=f"task-{what}",
            uuid=uuid,
            hostname=self._hostname,
            pid=self._pid,
            timestamp=at,
            name=name,
            args=args,
            kwargs=kwargs,
            result=result,
            runtime=runtime,
            exception=exception,
        )


def choose(events: Sequence[TaskEvent], most: int) -> tuple[Sequence[TaskEvent], set[str]]:
    """Choose what to send when not all may be: whole tasks, those in trouble first.

    Before tasks that are new come the ends of those that are known to run.

    Returns:
        The events to send, and the tasks that are left out.
    """
    if len(events) <= most:
        return events, set()
    tasks: dict[str, list[TaskEvent]] = {}
    for event in events:
        tasks.setdefault(event.uuid, []).append(event)
    chosen: list[TaskEvent] = []
    left_out: set[str] = set()
    for uuid, told in sorted(tasks.items(), key=lambda task: _rank(task[1])):
        if len(chosen) + len(told) <= most:
            chosen += told
        else:
            left_out.add(uuid)
    return chosen, left_out


def part_uuid(manifest: Manifest, part: int) -> str:
    """Name the task that stands for a part."""
    return f"{manifest.backfill_id}.{part}"


def _rank(told: Sequence[TaskEvent]) -> int:
    if any(event.type in _TROUBLE for event in told):
        return 0
    return 2 if told[0].type == "task-received" else 1


def _facts_of_backfill(manifest: Manifest) -> tuple[str, str]:
    about = {"table": manifest.table, "parts": len(manifest.parts)}
    return _name("adopt"), repr(about)


def _name(operation: str) -> str:
    """Name a task; a backfill's is one with that of the request that adopts its files."""
    return "deltaq.backfill" if operation == "adopt" else f"deltaq.{operation}"


def _facts(request: Request) -> tuple[str, str]:
    """Name a request's task, and say what it is about."""
    about: dict[str, object] = {"table": request.table}
    rows = rows_of(request)
    if rows is not None:
        about["rows"] = rows
    about["lane"] = request.lane.value
    return _name(operation_of(request)), repr(about)


def _facts_of(outcome: Outcome, lane: Lane) -> tuple[str, str]:
    about = {"table": outcome.table, "lane": lane.value}
    return _name(outcome.operation), repr(about)


def _result(outcome: Outcome) -> str:
    told = [] if outcome.version is None else [f"version {outcome.version}"]
    if outcome.rows is not None:
        told.append(f"{outcome.rows} rows")
    for what in ("inserted", "updated", "deleted"):
        count = getattr(outcome, what)
        if count and (what != "inserted" or count != outcome.rows):
            told.append(f"{count} {what}")
    if outcome.group_size and outcome.group_size > 1:
        told.append(f"{outcome.group_size} in the commit")
    if outcome.engine:
        told.append(outcome.engine)
    if outcome.waited_seconds is not None:
        told.append(f"waited {outcome.waited_seconds:.2f} s")
    return ", ".join(told) or "done"


def _nothing(args: Sequence[object]) -> dict[str, object]:
    """Say nothing of arguments that are not known to be fit for the eyes of all viewers."""
    return {}


def _wake_up(args: Sequence[object]) -> dict[str, object]:
    return {"table": str(args[0])[:_LONGEST]} if args else {}


def _query(args: Sequence[object]) -> dict[str, object]:
    try:
        query = decode_query(str(args[0]) if args else "")
    except DeltaqError:
        return {}
    return {"query": query_name(query), "table": query.table}


_DESCRIBED: dict[str, Callable[[Sequence[object]], dict[str, object]]] = {
    keys.COMMIT_TASK: _wake_up,
    keys.READ_TASK: _query,
}


def _forget_oldest(known: dict[str, Any], most: int) -> None:
    while len(known) > most:
        del known[next(iter(known))]
