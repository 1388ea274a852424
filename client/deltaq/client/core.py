"""What every kind of client does: stage, submit, ring, resolve, give up in time."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from deltaq.client.dead_letters import DeadLetter
from deltaq.client.drafts import check_columns
from deltaq.client.frames import Frame, Rows, to_rows
from deltaq.client.future import Future
from deltaq.client.listener import Listener
from deltaq.client.pending import Load, Pending, PendingQuery, PendingRequest
from deltaq.client.results import take_rows
from deltaq.client.room import Room
from deltaq.client.sender import Sender
from deltaq.client.spool import Spool
from deltaq.client.staging import Staged, stage
from deltaq.tasks.connection import connect
from deltaq.tasks.errors import (
    InvalidRequest,
    QueueFull,
    QueueUnavailable,
    RequestError,
    ResultTimeout,
    StagedDataMissing,
)
from deltaq.tasks.inbox import Inbox, unapplied
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.query import Query, query_name
from deltaq.tasks.request import Delete, FrameRequest, Request, operation_of
from deltaq.tasks.staging import StagingArea, staged_request
from deltaq.tasks.status import TableStatus, read_status

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.tasks.settings import Settings

T = TypeVar("T")

#: Seconds between two tries at Redis: the first pause and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
#: Threads that read results of queries, and ask again.
_HELPERS = 2


class Core:
    """The part of a client that does not depend on how its caller waits.

    Args:
        settings: The settings.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.staging = StagingArea(settings.staging_root)
        #: Reads the rows that answer a query.
        self.take_rows = partial(take_rows, self.staging, kept=settings.read_ttl)
        self._closing = threading.Event()
        self._start()
        _cores.add(self)

    def _start(self) -> None:
        """Take an identity and connections; a forked process does so again."""
        self.client_id = uuid.uuid4().hex
        # Without retries, which would each take redis_timeout; _patiently tries again in time.
        self._redis = connect(self.settings, retries=0)
        self._inbox = Inbox(self._redis, self.settings)
        self._sender = Sender(self.settings)
        self._listener = Listener(self._redis, self._inbox, self.client_id)
        self._helpers = concurrent.futures.ThreadPoolExecutor(_HELPERS, "deltaq-helper")
        self._spool = self._new_spool() if self.settings.spool else None
        # The thread keeps the listener alive, and the core as long as a future waits.
        weakref.finalize(self, self._listener.stop)

    def _new_spool(self) -> Spool:
        return Spool(
            submit=self._enter,
            probe=self._inbox.ping,
            listener=self._listener,
            staging=self.staging,
            limit=self.settings.spool_max_requests,
        )

    def close(self) -> None:
        """End the threads and connections; waiting futures fail, their requests go on."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._spool is not None:
            self._spool.close(timeout=self.settings.redis_timeout)
        self._listener.close()
        self._helpers.shutdown(wait=False, cancel_futures=True)
        self._sender.close()
        self._redis.close()

    def write(self, draft: FrameRequest, frame: Frame, room: Room) -> Future[Outcome]:
        """Stage a frame and submit its request; both are durable when this returns.

        While Redis is down and there is a spool, only the first is.

        Raises:
            InvalidFrame, SchemaMismatch, InvalidRequest: Of the frame and the draft.
            RequestIdConflict: The id was used for a request with other content.
            QueueFull: The table's lane takes no more now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.
            StagingFull: The staging area's disk has no room; nothing is left behind.
            StorageUnavailable: The staging area cannot be written.
        """
        self._check_open()
        rows = to_rows(frame)
        check_columns(draft, rows.schema.names)
        return self._submit(draft, rows, room)

    def delete(self, draft: Delete, room: Room) -> Future[Outcome]:
        """Stage and submit a request without rows; it raises what :meth:`write` raises."""
        self._check_open()
        return self._submit(draft, None, room)

    def _submit(self, draft: Request, rows: Rows | None, room: Room) -> Future[Outcome]:
        # Before the rows are touched: a reader gives them only once.
        has_room = partial(self.staging.require_room, self.settings.staging_min_free_bytes)
        room.wait(has_room, closing=self._closing)
        staged = stage(self.staging, draft, rows)
        request = staged.request
        own = PendingRequest(self._future_of(request), keep=self.settings.outcome_ttl)
        pending = self._listener.add(own)
        try:
            self._enqueue(staged, pending, room)
        except BaseException:
            if pending is own:
                self._listener.discard(own.future)
            raise
        return pending.future

    def _enqueue(self, staged: Staged, pending: Pending, room: Room) -> None:
        request = staged.request
        path = self.staging.request_path(request.table, request.request_id)
        enter = partial(self._enter, staged, pending)
        try:
            if self._spool is None:
                room.wait(partial(self._patiently, enter), closing=self._closing)
            elif not self._spool.queue(staged, pending):
                self._enter_or_hold(self._spool, staged, pending, room)
        except QueueUnavailable as exc:
            raise QueueUnavailable(
                f"{exc.message}; the staged file {path} is kept, and the same call with "
                f"request_id={request.request_id!r} submits it once, however often",
                request_id=request.request_id,
                table=request.table,
                details={**exc.details, "staged_file": str(path)},
            ) from exc
        except (QueueFull, RequestError):
            self._withdraw(staged)
            raise

    def _enter_or_hold(self, spool: Spool, staged: Staged, pending: Pending, room: Room) -> None:
        self._listener.start()  # not awaited: Redis may be down
        try:
            room.wait(partial(self._enter, staged, pending), closing=self._closing)
        except QueueUnavailable as exc:
            spool.hold(staged, pending, exc)

    def _enter(self, staged: Staged, pending: Pending) -> None:
        request = staged.request
        try:
            submitted = self._inbox.submit(request)
        except RequestError:
            self._withdraw(staged)
            raise
        pending.queued()
        if submitted.ring:
            self._sender.ring(request.table, request.lane)
        if submitted.outcome is not None:
            # The file was made again after a worker had removed the first one, or in vain.
            self._withdraw(staged)
            self._listener.settle(submitted.outcome)

    def redrive(self, letter: DeadLetter) -> Future[Outcome]:
        """Submit a dead letter anew, under its own id.

        Whatever happens in between, its file is staged or a dead letter: one that is staged
        although Redis says that it failed is buried again by the sweeper, and one that Redis
        does not know is found by ``deltaq recover``.

        Raises:
            StagedDataMissing, InvalidRequest: The file is gone, damaged or of a newer deltaq.
            QueueFull: The table's lane takes no more now; it is a dead letter again.
            QueueUnavailable: Redis did not answer; the same call again is safe.
        """
        self._check_open()
        path = self.staging.request_path(letter.table, letter.request_id)
        # What it was waiting for is over; its outcome shall be heard here.
        request = msgspec.structs.replace(
            staged_request(letter.path), client_id=self.client_id, expires_ms=None
        )
        own = PendingRequest(self._future_of(request), keep=self.settings.outcome_ttl)
        reason = self.staging.exhume(letter.path, path)
        try:
            submitted = self._patiently(partial(self._inbox.submit, request, anew=True))
        except (QueueFull, RequestError):
            self.staging.bury(path, letter.path, reason)
            raise
        # Not earlier: its old outcome would be heard.
        pending = self._listener.add(own)
        pending.queued()
        if submitted.ring:
            self._sender.ring(request.table, request.lane)
        if submitted.outcome is not None:  # committed or cancelled meanwhile, by somebody else
            self.staging.remove(path)
            self._listener.settle(submitted.outcome)
        return pending.future

    def status(self) -> list[TableStatus]:
        """See what waits for each table."""
        return self._patiently(partial(read_status, self._redis))

    def _withdraw(self, staged: Staged) -> None:
        """Remove the file that was staged for a submission, unless another one needs it."""
        if staged.created:
            request = staged.request
            self.staging.remove(self.staging.request_path(request.table, request.request_id))

    def _future_of(self, request: Request) -> Future[Outcome]:
        return Future(
            request_id=request.request_id,
            table=request.table,
            operation=operation_of(request),
            cancel=partial(self._cancel, request),
        )

    def _cancel(self, request: Request) -> bool:
        outcome = unapplied(request, State.CANCELLED)
        if self._spool is None or not self._spool.cancel(request):
            state = self._patiently(partial(self._inbox.cancel, request, reason=outcome))
            if state is not State.CANCELLED:
                return False
        self.staging.remove(self.staging.request_path(request.table, request.request_id))
        self._listener.settle(outcome)
        return True

    def cancel(self, table: str, request_id: str) -> bool:
        """Cancel a request of any client; see :meth:`Future.cancel`."""
        try:
            request = staged_request(self.staging.request_path(table, request_id))
        except StagedDataMissing:  # settled, or never staged
            known = self.outcome(table, request_id)
            return known is not None and known.state is State.CANCELLED
        return self._cancel(request)

    def ask(self, query: Query, load: Load[T]) -> Future[T]:
        """Send a query.

        Args:
            query: The query.
            load: Makes the future's result from the answer, and cleans up once it is told.

        Raises:
            QueueUnavailable: Redis did not answer.
        """
        self._check_open()
        future: Future[T] = Future(
            request_id=query.request_id, table=query.table, operation=query_name(query)
        )
        ask = partial(self._sender.ask, query)
        pending = PendingQuery(future, load=load, ask=ask, helpers=self._helpers)
        self._listener.add(pending)
        try:
            self._patiently(ask)
        except BaseException:
            self._listener.discard(future)
            raise
        return future

    def answer(self, query: Query, load: Load[T], *, timeout: float | None) -> T:
        """Send a query and wait for its answer.

        Raises:
            ResultTimeout: There was none within ``timeout`` seconds; it is not waited for.
            QueueUnavailable: Redis did not answer.
        """
        future = self.ask(query, load)
        try:
            return future.result(timeout)
        except ResultTimeout:
            self._listener.discard(future)
            raise

    def outcome(self, table: str, request_id: str) -> Outcome | None:
        """Look up what came of a request; None if Redis does not know it."""
        look = partial(self._inbox.outcomes, [(table, request_id)])
        (found,) = self._patiently(look)
        if not isinstance(found, State):
            return found
        try:
            request = staged_request(self.staging.request_path(table, request_id))
        except StagedDataMissing:  # settled this instant
            (found,) = self._patiently(look)
            return found if isinstance(found, Outcome) else None
        return Outcome(
            request_id=request_id,
            table=table,
            operation=operation_of(request),
            state=State.QUEUED,
        )

    def _patiently(self, call: Callable[[], T]) -> T:
        """Try until ``Settings.redis_timeout`` is over; a call that hangs takes as long itself."""
        deadline = time.monotonic() + self.settings.redis_timeout
        self._listener.subscribe(timeout=self.settings.redis_timeout)
        pause = _FIRST_PAUSE
        while True:
            try:
                return call()
            except QueueUnavailable:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise InvalidRequest("the client is closed")


#: A fork copies a client without its thread, and with sockets that are the parent's.
_cores: weakref.WeakSet[Core] = weakref.WeakSet()


def _start_afresh() -> None:
    for core in list(_cores):
        if not core._closing.is_set():
            core._start()


os.register_at_fork(after_in_child=_start_afresh)
