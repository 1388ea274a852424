"""Task events over a real broker, what waits in real inboxes, and what is revoked."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from celery import Celery
from celery.worker import state as celery_state
from kombu.transport import redis as transport
from pydantic import SecretStr

from deltaq.client import Client, RequestCancelled
from deltaq.tasks.broker import make_celery
from deltaq.tasks.error_info import ErrorInfo
from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Lane, Request
from deltaq.tasks.settings import Settings
from deltaq.worker.channel import Channel
from deltaq.worker.events import Events
from deltaq.worker.groups import CommitGroup, Waiting
from deltaq.worker.lookout import Lookout
from deltaq.worker.revoking import Revoker
from tests.support.player import Player
from tests.support.redis import RedisServer
from tests.support.requests import make_append
from tests.support.waiting import wait_until

ROWS = pa.table({"n": [1]})


@pytest.fixture
def app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    monkeypatch.setattr(transport.Transport, "Channel", Channel)
    with make_celery(settings) as app:
        yield app


class Listener:
    """Hears what Flower would."""

    def __init__(self, server: RedisServer) -> None:
        self.messages = 0
        self.events: list[dict[str, Any]] = []
        self._client = server.client()
        self._channel = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._channel.psubscribe("/0.celeryev/*")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            message = self._channel.get_message(ignore_subscribe_messages=True, timeout=0.05)
            if message:
                body = b64decode(json.loads(message["data"])["body"])
                self.events += json.loads(body)
                self.messages += 1

    def of(self, request: Request) -> list[str]:
        return [e["type"] for e in self.events if e["uuid"] == request.request_id]

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._channel.close()
        self._client.close()


@pytest.fixture
def listener(redis_server: RedisServer) -> Iterator[Listener]:
    listener = Listener(redis_server)
    yield listener
    listener.close()


def make_events(app: Celery, settings: Settings, limit: int) -> Events:
    given = {"redis_timeout": 0.5, "events_per_second": limit}
    events = Events(app, settings.model_copy(update=given), name="worker@here")
    events.start()
    return events


@pytest.fixture
def events(app: Celery, settings: Settings) -> Iterator[Events]:
    events = make_events(app, settings, 1000)
    yield events
    events.close()


def begin(events: Events, *requests: Request) -> None:
    members = tuple(Waiting(sequence=n, request=r) for n, r in enumerate(requests, start=1))
    table = requests[0].table
    group = CommitGroup(table=table, lane=Lane.LIVE, app_id="ledger", members=members)
    events.group_begun(group, attempt=1)


def settle(events: Events, *requests: Request, state: State = State.COMMITTED) -> None:
    outcomes = [
        Outcome(
            request_id=r.request_id,
            table=r.table,
            operation="append",
            state=state,
            error=ErrorInfo(code="schema_mismatch", message="no") if state == "failed" else None,
        )
        for r in requests
    ]
    events.settled(Lane.LIVE, outcomes, requests)


def be_heard(events: Events, listener: Listener) -> None:
    """Wait until the worker knows that somebody listens."""
    wait_until(lambda: listener.messages)
    wait_until(lambda: _is_told(events, listener))


def _is_told(events: Events, listener: Listener) -> bool:
    probe = make_append("probe")
    settle(events, probe)
    return bool(listener.events)


def test_who_listens_is_told_in_the_order_of_things(events: Events, listener: Listener) -> None:
    be_heard(events, listener)
    request = make_append()

    begin(events, request)
    events.retried(request.table, StorageUnavailable("no space left"), pause=1.0)
    begin(events, request)
    settle(events, request)

    wait_until(lambda: "task-succeeded" in listener.of(request))
    assert listener.of(request) == [
        *("task-received", "task-started", "task-retried", "task-started", "task-succeeded")
    ]
    (retried,) = (e for e in listener.events if e["type"] == "task-retried")
    assert retried["exception"] == "storage_unavailable: no space left; tried again in 1.0 s"
    assert {e["hostname"] for e in listener.events} == {"worker@here"}


def test_what_happens_while_nobody_listens_is_not_kept(
    events: Events, redis_server: RedisServer
) -> None:
    missed = make_append()
    settle(events, missed)

    listener = Listener(redis_server)
    be_heard(events, listener)
    assert listener.of(missed) == []
    listener.close()

    unheard = make_append()

    def has_stopped() -> bool:
        settle(events, unheard)
        return not events._notes

    wait_until(has_stopped)
    again = Listener(redis_server)
    be_heard(events, again)
    again.close()
    assert again.of(unheard) == []


def test_above_the_limit_failures_are_told_and_the_rest_is_counted(
    app: Celery, settings: Settings, listener: Listener
) -> None:
    events = make_events(app, settings, 100)
    be_heard(events, listener)
    # A second's worth of notes is kept at most.
    many, failed = [make_append() for _ in range(60)], make_append()

    settle(events, *many)
    settle(events, failed, state=State.FAILED)

    wait_until(lambda: listener.of(failed))
    settle(events, *[make_append() for _ in range(200)])
    events.close()
    assert listener.of(failed) == ["task-received", "task-failed"]
    assert all(len(listener.of(r)) in (0, 2) for r in many)
    assert events.left_out >= 200


def test_with_a_limit_of_none_nothing_is_sent(
    app: Celery, settings: Settings, listener: Listener
) -> None:
    events = make_events(app, settings, 0)
    settle(events, make_append())
    events.close()
    assert listener.messages == 0


def test_a_broker_that_is_gone_hurts_nobody_and_is_found_again(
    events: Events,
    listener: Listener,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    be_heard(events, listener)
    redis_server.pause()
    try:
        settle(events, make_append())
        wait_until(lambda: "no task events are sent" in caplog.text, within=30)
    finally:
        redis_server.resume()
    after = make_append()

    def is_told() -> bool:
        settle(events, after)
        return bool(listener.of(after))

    wait_until(is_told, within=30)


def test_a_broker_that_is_away_is_told_of_once(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    away = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1")})
    looks: set[float] = set()
    with make_celery(away) as app:
        events = make_events(app, away, 1000)

        def has_looked_again() -> bool:
            looks.add(events._looked)
            return len(looks) > 3

        wait_until(has_looked_again, within=30)
        events.close()
    assert caplog.text.count("no task events are sent") == 1


@pytest.fixture
def lookout(player: Player) -> Lookout:
    return Lookout(player.client, player.inbox, name="one@here")


def ids(requests: list[Request]) -> list[str]:
    return [request.request_id for request in requests]


def test_what_waits_since_the_last_look_is_found_once(client: Client, lookout: Lookout) -> None:
    future = client.append("a", ROWS)
    other = client.append("b", ROWS, lane="bulk")

    assert lookout.look().waiting == []
    assert set(ids(lookout.look().waiting)) == {future.request_id, other.request_id}
    assert lookout.look().waiting == []


def test_what_a_worker_takes_meanwhile_is_not_found(
    client: Client, lookout: Lookout, player: Player
) -> None:
    client.append("a", ROWS)
    lookout.look()
    player.commit_all("a")
    late = client.append("a", ROWS)

    assert lookout.look().waiting == []
    assert ids(lookout.look().waiting) == [late.request_id]


def test_of_what_was_found_only_the_cancelled_is_told_again(
    client: Client, lookout: Lookout, player: Player
) -> None:
    committed, cancelled = client.append("a", ROWS), client.append("b", ROWS)
    lookout.look()
    lookout.look()

    cancelled.cancel()
    player.commit_all("a")

    assert [o.request_id for o in lookout.look().cancelled] == [cancelled.request_id]
    assert committed.result(10).version == 7
    assert lookout.look().cancelled == []


def test_one_worker_looks_for_all(client: Client, lookout: Lookout, player: Player) -> None:
    other = Lookout(player.client, player.inbox, name="other@here")
    client.append("a", ROWS)

    for _ in range(2):
        lookout.look()
        assert other.look().waiting == []


@pytest.fixture
def revoker(player: Player) -> Iterator[Revoker]:
    revoker = Revoker(player.inbox, player.staging)
    yield revoker
    revoker.close()


def test_a_revoked_request_is_cancelled_and_leaves_nothing(
    client: Client, revoker: Revoker, player: Player
) -> None:
    future = client.append("a", ROWS)
    kept = client.append("a", ROWS)

    assert revoker.revoke([future.request_id]) == []

    with pytest.raises(RequestCancelled):
        future.result(10)
    revoker.close()
    assert ids(player.waiting("a")) == [kept.request_id]
    assert [file.stem for file in player.staging.root.glob("requests/a/*")] == [kept.request_id]


def test_what_a_worker_has_begun_with_goes_on(
    client: Client, revoker: Revoker, player: Player, caplog: pytest.LogCaptureFixture
) -> None:
    future = client.append("a", ROWS)
    player.claim_all("a")

    revoker.revoke([future.request_id])

    revoker.close()
    assert "cannot be cancelled any more: a worker has begun with it" in caplog.text
    assert not future.done()
    assert player.waiting("a")


def test_other_ids_are_of_no_consequence(
    client: Client, revoker: Revoker, player: Player, caplog: pytest.LogCaptureFixture
) -> None:
    client.append("a", ROWS)

    revoker.revoke(["*", "", "../../x", "0d5b0b51-7c1c-4a51-9d3e-6a0f7f0f7a10", "a" * 300])

    revoker.close()
    assert len(player.waiting("a")) == 1
    assert caplog.text == ""


def test_the_command_marks_celerys_own_tasks_as_revoked_too(revoker: Revoker) -> None:
    reply = revoker._on_command(None, "0d5b0b51-7c1c-4a51-9d3e-6a0f7f0f7a11", terminate=True)

    assert "flagged as revoked" in reply["ok"]
    assert "0d5b0b51-7c1c-4a51-9d3e-6a0f7f0f7a11" in celery_state.revoked
