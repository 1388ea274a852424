"""What every kind of client does with requests: stage, submit, look up, cancel.

It is written once, as coroutines; how they wait is the wire's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from deltaq.client.connected import Connected
from deltaq.client.dead_letters import DeadLetter, find_dead_letters
from deltaq.client.drafts import check_columns
from deltaq.client.frames import Frame, to_rows
from deltaq.client.future import BaseFuture
from deltaq.client.pending import Pending, PendingRequest
from deltaq.client.results import take_rows
from deltaq.client.room import Room
from deltaq.client.spool import Spool
from deltaq.client.staging import Staged, stage
from deltaq.client.tracing import traces_of
from deltaq.client.users import user_of
from deltaq.client.wire import Turn, Wire
from deltaq.tasks.calls import Submitted, unapplied
from deltaq.tasks.errors import (
    QueueFull,
    QueueUnavailable,
    RequestError,
    StagedDataMissing,
)
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import FrameRequest, Request, operation_of
from deltaq.tasks.signing import signer_of
from deltaq.tasks.staging import StagingArea, staged_request
from deltaq.tasks.status import TableStatus

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.tasks.settings import Settings


class AsyncCore(Connected):
    """The part of a client that does not depend on how its caller waits.

    Args:
        settings: The settings.
        wire: Makes what waits and talks.
    """

    def __init__(self, settings: Settings, wire: Callable[[Settings], Wire]) -> None:
        self.staging = StagingArea(settings.staging_root)
        #: Reads the rows that answer a query.
        self.take_rows = partial(take_rows, self.staging, kept=settings.read_ttl)
        self._user = user_of(settings)
        self._signer = signer_of(settings)
        self._traces = traces_of(settings)
        super().__init__(settings, wire)

    def start(self) -> None:
        """Take an identity, connections and a spool; a forked process does so again."""
        super().start()
        self._spool = self._new_spool() if self.settings.spool else None

    def _new_spool(self) -> Spool:
        wire = self._wire
        return Spool(
            submit=lambda staged, pending: wire.drive(self._bring_in(staged, pending)),
            probe=lambda: wire.drive(wire.ping()),
            listener=self.listener,
            staging=self.staging,
            limit=self.settings.spool_max_requests,
        )

    async def close(self) -> None:
        """End the threads and connections; waiting futures fail, their requests go on."""
        if self.closed:
            return
        self._closing.set()
        if self._spool is not None:
            end = partial(self._spool.close, timeout=self.settings.redis_timeout)
            await self._wire.work(end)
        await self.disconnect()

    async def write(self, draft: FrameRequest, frame: Frame, room: Room) -> BaseFuture[Outcome]:
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
        with self._traces.submitting(draft) as draft:
            return await self._submit(draft, partial(self._stage_frame, draft, frame), room)

    async def order(self, draft: Request, room: Room) -> BaseFuture[Outcome]:
        """Stage and submit a request without rows; it raises what :meth:`write` raises."""
        with self._traces.submitting(draft) as draft:
            return await self._submit(draft, partial(self._stage, draft), room)

    async def _submit(
        self, draft: Request, make: Callable[[], Staged], room: Room
    ) -> BaseFuture[Outcome]:
        self.check_open()
        # What may have to wait, for room or for Redis, must not be overtaken.
        alone = room.waits or self._spool is not None
        with self._wire.turn(draft, alone=alone) as turn:
            if room.waits:
                # Not while the rows are taken: a reader gives them only once.
                has_room = partial(self._wire.work, self._require_room)
                await room.wait(has_room, closing=self._closing)
            staged = await self._wire.work(make, undo=self._withdraw)
            request = staged.request
            own = PendingRequest(self.future_of(request), keep=self.settings.outcome_ttl)
            pending = self.listener.add(own)
            try:
                await self._enqueue(staged, pending, turn, room)
            except BaseException as exc:
                if pending is own:
                    self.listener.discard(own.future)
                if not isinstance(exc, Exception) and not turn.sent:  # the waiting was cancelled
                    await self._wire.work(partial(self._withdraw, staged))
                raise
            return pending.future

    def _stage_frame(self, draft: FrameRequest, frame: Frame) -> Staged:
        rows = to_rows(frame)
        check_columns(draft, rows.schema.names)
        self._require_room()
        return stage(self.staging, draft, rows, user=self._user, signer=self._signer)

    def _stage(self, draft: Request) -> Staged:
        self._require_room()
        return stage(self.staging, draft, None, user=self._user, signer=self._signer)

    def _require_room(self) -> None:
        self.staging.require_room(self.settings.staging_min_free_bytes)

    async def _enqueue(self, staged: Staged, pending: Pending, turn: Turn, room: Room) -> None:
        request = staged.request
        path = self.staging.request_path(request.table, request.request_id)
        enter = partial(self._enter, staged, pending, turn)
        try:
            if self._spool is None:
                await room.wait(partial(self.patiently, enter), closing=self._closing)
            else:
                await self._wire.first(turn)
                if not self._spool.queue(staged, pending):
                    await self._enter_or_hold(self._spool, staged, pending, turn, room)
        except QueueUnavailable as exc:
            raise QueueUnavailable(
                f"{exc.message}; the staged file {path} is kept, and the same call with "
                f"request_id={request.request_id!r} submits it once, however often",
                request_id=request.request_id,
                table=request.table,
                details={**exc.details, "staged_file": str(path)},
            ) from exc
        except (QueueFull, RequestError):
            await self._wire.work(partial(self._withdraw, staged))
            raise

    async def _enter_or_hold(
        self, spool: Spool, staged: Staged, pending: Pending, turn: Turn, room: Room
    ) -> None:
        self.listener.start()  # not awaited: Redis may be down
        try:
            enter = partial(self._enter, staged, pending, turn)
            await room.wait(enter, closing=self._closing)
        except QueueUnavailable as exc:
            spool.hold(staged, pending, exc)

    async def _bring_in(self, staged: Staged, pending: Pending) -> None:
        with self._wire.turn(staged.request, alone=True) as turn:
            await self._enter(staged, pending, turn)

    async def _enter(self, staged: Staged, pending: Pending, turn: Turn) -> None:
        try:
            submitted = await self._wire.submit(turn, staged.request)
        except RequestError:
            await self._wire.work(partial(self._withdraw, staged))
            raise
        self.accepted(staged.request, pending, submitted)
        if submitted.outcome is not None:
            # The file was made again after a worker had removed the first one, or in vain.
            await self._wire.work(partial(self._withdraw, staged))
            self.listener.settle(submitted.outcome)

    def accepted(self, request: Request, pending: Pending, submitted: Submitted) -> None:
        """Note that Redis has a request, and where."""
        pending.queued()
        pending.future.place = (request.lane, submitted.sequence)

    async def dead_letters(self, table: str | None) -> list[DeadLetter]:
        """List the dead letters of a table or all, oldest first."""
        return await self._wire.work(partial(find_dead_letters, self.staging, table))

    async def status(self) -> list[TableStatus]:
        """See what waits for each table."""
        self.check_open()
        return await self.patiently(self._wire.status)

    def _withdraw(self, staged: Staged) -> None:
        """Remove the file that was staged for a submission, unless another one needs it."""
        if staged.created:
            request = staged.request
            self.staging.remove(self.staging.request_path(request.table, request.request_id))

    def future_of(self, request: Request) -> BaseFuture[Outcome]:
        """Make the future of a request."""
        return self._wire.future(
            request.request_id,
            request.table,
            operation_of(request),
            _Cancelling(self, request),
        )

    async def cancel_request(self, request: Request) -> bool:
        """Cancel a request; see :meth:`Future.cancel`."""
        outcome = unapplied(request, State.CANCELLED)
        if self._spool is None or not self._spool.cancel(request):
            state = await self.patiently(partial(self._wire.cancel, request, outcome))
            if state is not State.CANCELLED:
                return False
        path = self.staging.request_path(request.table, request.request_id)
        await self._wire.work(partial(self.staging.remove, path))
        self.listener.settle(outcome)
        return True

    async def cancel(self, table: str, request_id: str) -> bool:
        """Cancel a request of any client; see :meth:`Future.cancel`."""
        self.check_open()
        path = self.staging.request_path(table, request_id)
        try:
            request = await self._wire.work(partial(staged_request, path))
        except StagedDataMissing:  # settled, or never staged
            known = await self.outcome(table, request_id)
            return known is not None and known.state is State.CANCELLED
        return await self.cancel_request(request)

    async def outcome(self, table: str, request_id: str) -> Outcome | None:
        """Look up what came of a request; None if Redis does not know it."""
        self.check_open()
        look = partial(self._wire.outcomes, [(table, request_id)])
        (found,) = await self.patiently(look)
        if not isinstance(found, State):
            return found
        path = self.staging.request_path(table, request_id)
        try:
            request = await self._wire.work(partial(staged_request, path))
        except StagedDataMissing:  # settled this instant
            (found,) = await self.patiently(look)
            return found if isinstance(found, Outcome) else None
        return Outcome(
            request_id=request_id,
            table=table,
            operation=operation_of(request),
            state=State.QUEUED,
        )


class _Cancelling:
    """Cancels a request: a partial, of which there is one for each future, in a third of the space."""

    __slots__ = ("_core", "_request")

    def __init__(self, core: AsyncCore, request: Request) -> None:
        self._core = core
        self._request = request

    def __call__(self) -> Coroutine[Any, Any, bool]:
        return self._core.cancel_request(self._request)
