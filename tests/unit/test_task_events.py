"""What Celery's own receivers make of the events of a worker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from celery.events.state import State as Seen

from deltaq.tasks import keys
from deltaq.tasks.backfill import Ending, Prepared, Verdict
from deltaq.tasks.error_info import ErrorInfo
from deltaq.tasks.errors import SchemaMismatch, StorageUnavailable
from deltaq.tasks.manifest import Part
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.query import Read, encode_query
from deltaq.tasks.request import Lane, Request, new_request_id, operation_of
from deltaq.worker.groups import CommitGroup, Waiting
from deltaq.worker.task_events import Story, TaskEvent, choose, encode_events
from tests.support.backfills import manifest_of
from tests.support.requests import CLIENT_ID, Delete, make_append, make_request

NOW = 1_700_000_000.0


@pytest.fixture
def story() -> Story:
    return Story("worker@here")


def group_of(*requests: Request) -> CommitGroup:
    members = tuple(Waiting(sequence=n, request=r) for n, r in enumerate(requests, start=1))
    return CommitGroup(table="prices", lane=Lane.LIVE, app_id="ledger", members=members)


def outcome_of(request: Request, state: State = State.COMMITTED, **told: Any) -> Outcome:
    return Outcome(
        request_id=request.request_id,
        table=request.table,
        operation=operation_of(request),
        state=state,
        **told,
    )


def seen(*told: Sequence[TaskEvent]) -> dict[str, Any]:
    """Send events to a receiver and return its tasks by their ids."""
    receiver = Seen()
    events = [event for some in told for event in json.loads(encode_events(some))]
    for clock, event in enumerate(events):
        receiver.event({**event, "clock": clock, "local_received": NOW})
    assert list(receiver.workers) == ["worker@here"]
    return dict(receiver.tasks)


def kinds(events: Sequence[TaskEvent]) -> list[str]:
    return [event.type.removeprefix("task-") for event in events]


def test_a_committed_request_is_a_task_that_succeeded(story: Story) -> None:
    request = make_append(rows=3)
    outcome = outcome_of(
        request, version=7, rows=3, inserted=3, group_size=2, waited_seconds=0.25, engine="native"
    )

    begun = story.begun(group_of(request), NOW)
    ended = story.settled(Lane.LIVE, [outcome], [request], NOW + 1)

    assert kinds([*begun, *ended]) == ["received", "started", "succeeded"]
    task = seen(begun, ended)[request.request_id]
    assert (task.state, task.name) == ("SUCCESS", "deltaq.append")
    assert task.kwargs == "{'table': 'prices', 'rows': 3, 'lane': 'live'}"
    assert task.result == "version 7, 3 rows, 2 in the commit, native, waited 0.25 s"


def test_a_failed_request_shows_code_and_message(story: Story) -> None:
    request = make_request(Delete, where="price > 'the salary of ann'")
    error = ErrorInfo(code=SchemaMismatch.code, message="m" * 5000)

    told = story.settled(Lane.BULK, [outcome_of(request, State.FAILED, error=error)], [request], 0)

    task = seen(told)[request.request_id]
    assert (task.state, task.name) == ("FAILURE", "deltaq.delete")
    assert task.exception.startswith("schema_mismatch: mmm")
    assert len(task.exception) == 1000
    assert "salary" not in encode_events(told).decode()


@pytest.mark.parametrize("state", [State.CANCELLED, State.EXPIRED])
def test_what_no_worker_began_with_is_revoked(story: Story, state: State) -> None:
    request = make_append()

    told = story.settled(Lane.LIVE, [outcome_of(request, state)], [request], NOW)

    task = seen(told)[request.request_id]
    assert (task.state, task.exception) == ("REVOKED", f"{state} before a worker began with it")


def test_a_request_that_cannot_be_read_is_known_by_its_outcome(story: Story) -> None:
    request = make_append()
    error = ErrorInfo(code="invalid_request", message="not a request")

    told = story.settled(Lane.LIVE, [outcome_of(request, State.FAILED, error=error)], [], NOW)

    task = seen(told)[request.request_id]
    assert (task.name, task.kwargs) == ("deltaq.append", "{'table': 'prices', 'lane': 'live'}")


def test_a_waiting_request_is_received_once_though_it_is_begun_later(story: Story) -> None:
    request = make_append()

    waiting = story.waiting([request], NOW)
    begun = story.begun(group_of(request), NOW + 5)

    assert kinds([*waiting, *begun]) == ["received", "started"]
    assert seen(waiting)[request.request_id].state == "RECEIVED"


def test_a_request_that_is_tried_again_says_why(story: Story) -> None:
    request = make_append()
    begun = story.begun(group_of(request), NOW)
    retried = story.retried("prices", f"{StorageUnavailable.code}: no space left", NOW)

    task = seen(begun, retried)[request.request_id]
    assert (task.state, task.exception) == ("RETRY", "storage_unavailable: no space left")

    again = story.begun(group_of(request), NOW + 1)
    assert seen(begun, retried, again)[request.request_id].state == "STARTED"


def test_a_retry_of_what_was_not_begun_tells_nothing(story: Story) -> None:
    assert story.retried("prices", "spark is warming", NOW) == []


def test_what_becomes_of_a_lost_table_is_told_by_others(story: Story) -> None:
    request = make_append()
    story.begun(group_of(request), NOW)

    assert story.lost("prices") == []

    assert story.retried("prices", "late", NOW) == []
    assert kinds(story.begun(group_of(request), NOW)) == ["received", "started"]


def test_a_read_shows_what_was_asked_of_which_table_and_no_more(story: Story) -> None:
    query = Read(
        request_id=new_request_id(), client_id=CLIENT_ID, table="prices", where="name = 'ann'"
    )

    began = story.task_began("id", keys.READ_TASK, [encode_query(query), "signature"], NOW)
    answer = Outcome(
        request_id=query.request_id, table="prices", operation="read", state=State.COMMITTED, rows=2
    )
    ended = story.task_ended("id", NOW, seconds=0.5, answer=answer)

    task = seen(began, ended)["id"]
    assert (task.state, task.result, task.runtime) == ("SUCCESS", "2 rows", 0.5)
    assert task.kwargs == "{'query': 'read', 'table': 'prices'}"
    shown = encode_events([*began, *ended]).decode()
    assert "ann" not in shown
    assert "signature" not in shown


@pytest.mark.parametrize(
    ("name", "args", "about"),
    [
        (keys.COMMIT_TASK, ["prices"], "{'table': 'prices'}"),
        (keys.COMMIT_TASK, [], "{}"),
        (keys.READ_TASK, ["{no query"], "{}"),
        (keys.READ_TASK, [], "{}"),
        ("somebody.elses", ["secret"], "{}"),
    ],
)
def test_a_task_shows_only_arguments_that_are_known_to_be_harmless(
    story: Story, name: str, args: list[str], about: str
) -> None:
    assert story.task_began("id", name, args, NOW)[0].kwargs == about


def test_a_task_that_raised_has_failed(story: Story) -> None:
    began = story.task_began("id", keys.COMMIT_TASK, ["prices"], NOW)
    ended = story.task_ended("id", NOW, seconds=1, error=SchemaMismatch("no such column"))

    task = seen(began, ended)["id"]
    assert (task.state, task.exception) == ("FAILURE", "schema_mismatch: no such column")


def test_an_answer_that_came_later_is_a_task_of_its_own(story: Story) -> None:
    query = Read(request_id=new_request_id(), client_id=CLIENT_ID, table="prices", min_version=3)
    answer = Outcome(
        request_id=query.request_id, table="prices", operation="read", state=State.COMMITTED
    )

    task = seen(story.answered(query, answer, NOW))[query.request_id]

    assert (task.state, task.name, task.result) == ("SUCCESS", "deltaq.read", "done")


def test_the_parts_of_a_backfill_have_it_as_their_parent(story: Story) -> None:
    schema = pa.schema([("n", pa.int64())])
    parts = [Part(number=n, format="csv", slices=(), size_bytes=1) for n in range(2)]
    load = manifest_of(schema, parts, backfill_id="load")
    done = Prepared(
        number=0,
        files=(),
        rows=7,
        source_bytes=1,
        seconds=0.5,
        worker="worker@here",
        finished_at_ms=0,
    )

    pieces = tuple(Part(number=n, format="csv", slices=(), size_bytes=1) for n in (4, 6))
    cut = msgspec.structs.replace(done, number=2, rows=0, pieces=pieces)

    tasks = seen(
        story.part_begun(load, 0, NOW),
        story.part_ended(load, 0, done, NOW),
        story.part_begun(load, 1, NOW),
        story.part_ended(load, 1, None, NOW),
        story.part_begun(load, 2, NOW),
        story.part_ended(load, 2, cut, NOW),
    )

    assert tasks["load"].name == "deltaq.backfill"
    assert [tasks[part].name for part in ("load.0", "load.1")] == ["deltaq.prepare"] * 2
    assert {tasks[part].parent_id for part in ("load.0", "load.1")} == {"load"}
    assert (tasks["load.0"].state, tasks["load.1"].state) == ("SUCCESS", "FAILURE")
    assert tasks["load.0"].result == "7 rows, 0 files"
    assert (tasks["load.2"].state, tasks["load.2"].result) == ("SUCCESS", "cut into 2 parts")


def test_a_backfill_that_is_given_up_says_why(story: Story) -> None:
    schema = pa.schema([("n", pa.int64())])
    failed, cancelled = (manifest_of(schema, [], backfill_id=name) for name in ("f", "c"))
    error = ErrorInfo(code="schema_mismatch", message="a.csv: line 3")
    ends = {
        Ending.FAILED: Verdict(ending=Ending.FAILED, at_ms=0, error=error),
        Ending.CANCELLED: Verdict(ending=Ending.CANCELLED, at_ms=0),
    }

    tasks = seen(
        story.backfill_given_up(failed, ends[Ending.FAILED], NOW),
        story.backfill_given_up(cancelled, ends[Ending.CANCELLED], NOW),
    )

    assert {task.name for task in tasks.values()} == {"deltaq.backfill"}
    assert (tasks["f"].state, tasks["c"].state) == ("FAILURE", "REVOKED")
    assert tasks["f"].exception == "schema_mismatch: a.csv: line 3"


def test_below_the_limit_all_is_sent() -> None:
    told = Story("w").begun(group_of(make_append(), make_append()), NOW)
    assert choose(told, 4) == (told, set())


def test_above_the_limit_trouble_goes_first_and_no_task_is_torn(story: Story) -> None:
    running, failing, *new = [make_append() for _ in range(20)]
    story.begun(group_of(running), NOW)
    error = ErrorInfo(code="schema_mismatch", message="no")
    told = story.begun(group_of(*new), NOW)
    told += story.settled(Lane.LIVE, [outcome_of(r) for r in new], new, NOW)
    told += story.settled(Lane.LIVE, [outcome_of(running)], [running], NOW)
    bad = outcome_of(failing, State.FAILED, error=error)
    told += story.settled(Lane.LIVE, [bad], [failing], NOW)

    sent, left_out = choose(told, 10)

    assert [event.uuid for event in sent[:3]] == [
        *(failing.request_id, failing.request_id, running.request_id)
    ]
    assert kinds(sent[3:]) == ["received", "started", "succeeded"] * 2
    assert left_out == {r.request_id for r in new[2:]}


def test_what_was_left_out_is_made_known_again(story: Story) -> None:
    request = make_append()
    story.begun(group_of(request), NOW)

    story.unsaid([request.request_id])

    assert kinds(story.settled(Lane.LIVE, [outcome_of(request)], [request], NOW)) == [
        *("received", "succeeded")
    ]
