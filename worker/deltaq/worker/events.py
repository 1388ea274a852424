"""Tells Flower of requests and tasks, as far as it listens and the limit goes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from celery import Celery
from celery.events.event import get_exchange
from celery.signals import task_postrun, task_prerun

from deltaq.tasks import keys
from deltaq.tasks.backfill import Prepared, Verdict
from deltaq.tasks.broker import broker_errors
from deltaq.tasks.connection import connect
from deltaq.tasks.errors import DeltaqError, TransientError
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.manifest import Manifest
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.query import Query
from deltaq.tasks.request import Lane, Request
from deltaq.tasks.settings import Settings
from deltaq.worker.groups import CommitGroup
from deltaq.worker.lookout import Lookout
from deltaq.worker.observers import Observer
from deltaq.worker.task_events import Story, TaskEvent, choose, encode_events

logger = logging.getLogger(__name__)

#: Seconds between two messages; Flower's pages are not newer than that.
_INTERVAL = 0.5
#: Seconds between two looks at what waits, and between two questions whether anybody listens.
_LOOK_EVERY = 1.0
#: Events in one message, some 200 bytes each.
_MOST_IN_MESSAGE = 1000
#: Seconds between two lines about events that were left out.
_COMPLAIN_EVERY = 60.0

_Note = Callable[[], Sequence[TaskEvent]]


class Events(Observer):
    """Sends task events in a thread of its own; committing threads only leave it a note.

    Nothing is noted while nobody listens, or with ``events_per_second`` of 0.

    Args:
        app: Whose broker carries the events.
        settings: Limit, and where the queue's Redis is.
        name: The worker's, as in its heartbeats.

    Attributes:
        left_out: Tasks of which not all was told, since the start.
    """

    def __init__(self, app: Celery, settings: Settings, *, name: str) -> None:
        self._app = app
        self._limit = settings.events_per_second
        self._story = Story(name)
        # What waits can be looked at the next second: no retries, which may take a minute.
        self._client = connect(settings, retries=0)
        self._lookout = Lookout(self._client, Inbox(self._client, settings), name=name)
        self._lock = threading.Lock()
        self._notes: list[_Note] = []
        self._noted = 0
        self._listened = False
        self.left_out = self._told_left_out = 0
        self._budget = 0.0
        self._sent = self._looked = self._complained = time.monotonic()
        self._failing = False
        self._running = threading.local()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deltaq-events", daemon=True)

    def start(self) -> None:
        """Begin to listen for listeners."""
        if self._limit:
            task_prerun.connect(self._task_began, weak=False)
            task_postrun.connect(self._task_ended, weak=False)
            self._thread.start()

    def close(self) -> None:
        """Send what is noted and end."""
        if self._thread.ident is not None:
            task_prerun.disconnect(self._task_began)
            task_postrun.disconnect(self._task_ended)
            self._closing.set()
            self._thread.join()
        self._client.close()

    def group_begun(self, group: CommitGroup, *, attempt: int) -> None:
        """Note it."""
        self._note(len(group.members), self._story.begun, group)

    def settled(self, lane: Lane, outcomes: Sequence[Outcome], requests: Sequence[Request]) -> None:
        """Note it."""
        self._note(len(outcomes), self._story.settled, lane, outcomes, requests)

    def retried(self, table: str, error: TransientError, *, pause: float) -> None:
        """Note it."""
        reason = f"{error.code}: {error.message}; tried again in {pause:.1f} s"
        self._note(1, self._story.retried, table, reason)

    def lease_lost(self, table: str) -> None:
        """Note it."""
        self._note(1, lambda table, at: self._story.lost(table), table)

    def answered(self, query: Query, outcome: Outcome) -> None:
        """Note it, or leave it to the task that took the query and still runs."""
        if getattr(self._running, "since", None) is not None:
            self._running.answer = outcome
        else:
            self._note(1, self._story.answered, query, outcome)

    def part_begun(self, manifest: Manifest, part: int) -> None:
        """Note it."""
        self._note(1, self._story.part_begun, manifest, part)

    def part_ended(self, manifest: Manifest, part: int, prepared: Prepared | None) -> None:
        """Note it."""
        self._note(1, self._story.part_ended, manifest, part, prepared)

    def backfill_given_up(self, manifest: Manifest, verdict: Verdict) -> None:
        """Note it."""
        self._note(1, self._story.backfill_given_up, manifest, verdict)

    def _task_began(self, task_id: str, task: Any, args: Sequence[object], **_: Any) -> None:
        if task.name == keys.PREPARE_TASK:  # a hint; the part is told of when it is prepared
            self._running.since = None
            return
        self._running.since, self._running.answer = time.monotonic(), None
        self._note(1, self._story.task_began, task_id, task.name, args)

    def _task_ended(self, task_id: str, state: str, retval: object, **_: Any) -> None:
        if self._running.since is None:
            return
        seconds = time.monotonic() - self._running.since
        tell = partial(
            self._story.task_ended,
            seconds=seconds,
            error=retval if state == "FAILURE" else None,
            answer=self._running.answer,
        )
        self._running.since = None
        self._note(1, tell, task_id)

    def _note(self, count: int, tell: Callable[..., Sequence[TaskEvent]], *about: object) -> None:
        if not self._listened:
            return
        note = partial(tell, *about, time.time())
        with self._lock:
            # What is beyond the limit of a second would not be sent anyway.
            if self._noted + count > self._limit:
                self.left_out += count
                return
            self._noted += count
            self._notes.append(note)

    def _run(self) -> None:
        while not self._closing.wait(_INTERVAL):
            self._try()
        if not self._failing:  # a worker that ends does not wait for a broker that is down
            self._try()

    def _try(self) -> None:
        try:
            self._tell()
        except Exception as exc:
            # Whatever it was, Flower must hear of the next ones.
            foreseen = isinstance(exc, DeltaqError)
            if not self._failing:
                logger.warning("no task events are sent: %s", exc, exc_info=not foreseen)
            self._failing = True
            self._hear(0)

    def _tell(self) -> None:
        with self._lock:
            notes, self._notes, self._noted = self._notes, [], 0
        events = [event for note in notes for event in note()]
        is_time = time.monotonic() - self._looked >= _LOOK_EVERY
        if is_time:
            self._looked = time.monotonic()
            if self._listened and not self._closing.is_set():
                events += self._look()
        sent, left_out = choose(events, self._allowance())
        if is_time and not sent:
            self._send([])  # to learn whether anybody listens
        self._budget -= len(sent)
        for start in range(0, len(sent), _MOST_IN_MESSAGE):
            self._send(sent[start : start + _MOST_IN_MESSAGE])
        self._story.unsaid(left_out)
        self.left_out += len(left_out)
        self._complain()

    def _allowance(self) -> int:
        """Say how many events may be sent now: what was not used lately, up to that of a second."""
        now = time.monotonic()
        self._budget = min(self._limit, self._budget + self._limit * (now - self._sent))
        self._sent = now
        return int(self._budget)

    def _look(self) -> list[TaskEvent]:
        found = self._lookout.look()
        now = time.time()
        events = self._story.waiting(found.waiting, now)
        for outcome in found.cancelled:
            events += self._story.settled(Lane.LIVE, [outcome], [], now)
        return events

    def _send(self, events: Sequence[TaskEvent]) -> None:
        """Send one message.

        Raises:
            QueueUnavailable: The broker did not take it.
        """
        with broker_errors(), self._app.producer_pool.acquire(block=True) as producer:
            exchange = get_exchange(producer.connection, name=self._app.conf.event_exchange)
            producer.publish(
                encode_events(events),
                exchange=exchange.name,
                routing_key="task.multi",
                declare=[exchange],
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=1,
            )
            self._hear(producer.channel.heard)
        self._failing = False

    def _hear(self, listeners: int) -> None:
        listened, self._listened = self._listened, listeners > 0
        if listened and not listeners:
            self._story.forget()
            self._lookout.forget()

    def _complain(self) -> None:
        missing = self.left_out - self._told_left_out
        if missing and time.monotonic() - self._complained >= _COMPLAIN_EVERY:
            self._complained, self._told_left_out = time.monotonic(), self.left_out
            logger.warning(
                "Flower was not told of %d requests or tasks: more than events_per_second=%d",
                missing,
                self._limit,
            )
