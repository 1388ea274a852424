"""Dead letters that are submitted anew."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import msgspec

from deltaq.client.async_core import AsyncCore
from deltaq.client.dead_letters import DeadLetter, find_dead_letter
from deltaq.client.future import BaseFuture
from deltaq.client.pending import PendingRequest
from deltaq.tasks.errors import DeltaqError, QueueFull, RequestError
from deltaq.tasks.names import check_request_id
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.staging import staged_request


async def redrive(
    core: AsyncCore, letters: Iterable[DeadLetter | str]
) -> list[BaseFuture[Outcome]]:
    """Submit dead letters anew, in order; what could not be submitted has its error.

    Raises:
        InvalidRequest: One cannot be found; nothing was submitted.
    """
    core.check_open()
    find = partial(find_dead_letter, core.staging)
    found = [
        letter
        if isinstance(letter, DeadLetter)
        else await core.wire.work(partial(find, check_request_id(letter)))
        for letter in letters
    ]
    return [await _redrive_or_fail(core, letter) for letter in found]


async def _redrive_or_fail(core: AsyncCore, letter: DeadLetter) -> BaseFuture[Outcome]:
    try:
        return await _redrive(core, letter)
    except DeltaqError as exc:
        future = core.wire.future(letter.request_id, letter.table, letter.operation or "request")
        future._fail(exc)
        return future


async def _redrive(core: AsyncCore, letter: DeadLetter) -> BaseFuture[Outcome]:
    """Submit a dead letter anew, under its own id.

    Whatever happens in between, its file is staged or a dead letter: one that is staged
    although Redis says that it failed is buried again by the sweeper, and one that Redis
    does not know is found by ``deltaq recover``.
    """
    staging, wire = core.staging, core.wire
    path = staging.request_path(letter.table, letter.request_id)
    # What it was waiting for is over; its outcome shall be heard here.
    request = msgspec.structs.replace(
        await wire.work(partial(staged_request, letter.path)),
        client_id=core.client_id,
        expires_ms=None,
    )
    own = PendingRequest(core.future_of(request), keep=core.settings.outcome_ttl)
    reason = await wire.work(partial(staging.exhume, letter.path, path))
    try:
        with wire.turn(request, alone=True) as turn:
            submitted = await core.patiently(partial(wire.submit, turn, request, anew=True))
    except (QueueFull, RequestError):
        await wire.work(partial(staging.bury, path, letter.path, reason))
        raise
    # Not earlier: its old outcome would be heard.
    pending = core.listener.add(own)
    core.accepted(request, pending, submitted)
    if submitted.outcome is not None:  # committed or cancelled meanwhile, by somebody else
        await wire.work(partial(staging.remove, path))
        core.listener.settle(submitted.outcome)
    return pending.future
