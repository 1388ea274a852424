"""A backfill from its sources to its outcome, as a client of any kind does it.

Workers do the work, and find it in the staging area: from the moment when the manifest is there
they need no client, and a client no Redis to stop or resume it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from msgspec import structs

from deltaq.client.async_core import AsyncCore
from deltaq.client.backfill_orders import Order, Sources, each_source, manifest_of
from deltaq.client.backfill_pending import PendingBackfill
from deltaq.client.backfill_progress import (
    BackfillProgress,
    BackfillState,
    ProgressReader,
    progress_with,
    read_progress,
)
from deltaq.client.backfill_replan import replanned
from deltaq.client.backfill_schemas import Shape, read_shapes
from deltaq.client.backfill_sources import find_files
from deltaq.client.backfill_uploads import Uploads
from deltaq.client.frames import Frame
from deltaq.client.future import BaseFuture
from deltaq.client.users import user_of
from deltaq.tasks import keys
from deltaq.tasks.backfill import Backfill, Claim, Ending, Verdict, list_backfills
from deltaq.tasks.errors import (
    InvalidRequest,
    QueueUnavailable,
    RequestIdConflict,
    ResultTimeout,
    StagedDataMissing,
    TableNotFound,
)
from deltaq.tasks.manifest import Manifest
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.query import Detail
from deltaq.tasks.request import new_request_id
from deltaq.tasks.signing import signer_of
from deltaq.tasks.suggest import did_you_mean

logger = logging.getLogger(__name__)

#: Seconds to wait for a worker's word on the table, before and after it is said that there is none.
_SILENT_SECONDS, _ANSWER_SECONDS = 3.0, 57.0
#: Seconds to wait until a worker has removed what was prepared, and between two looks.
_CLEAN_SECONDS, _PAUSE = 60.0, 0.2
#: Parts for which workers are woken; who has prepared one looks for the next.
_HINTS = 16
#: Claims of parts that are looked at for stragglers; workers hold one each.
_MOST_CLAIMS = 500


async def begin(
    core: AsyncCore, order: Order, sources: Sources, *, upload: bool
) -> BaseFuture[Outcome]:
    """Begin a backfill, or join the one of the same id; it goes on without this client.

    Raises:
        InvalidRequest, InvalidFrame, SchemaMismatch: Of the sources and the order.
        RequestIdConflict: The id is that of another backfill.
        QueueUnavailable: Redis does not answer; nothing is left behind.
        StagingFull: There is no room for what is uploaded; nothing is left behind.
        StorageUnavailable: Sources cannot be read, or the staging area not be written.
    """
    core.check_open()
    wire = core.wire
    backfill = _open(core, order.backfill_id)
    known = await wire.work(partial(_manifest_if_any, backfill))
    if known is not None:
        _check_same(order, known)
        return await follow(core, backfill, known)
    await core.patiently(wire.ping)
    uploads = Uploads(
        core.staging,
        backfill.uploads / new_request_id(),
        min_free_bytes=core.settings.staging_min_free_bytes,
    )
    try:
        look = partial(_look, order, sources, uploads, upload=upload)
        shapes = await wire.work(look, undo=lambda _: uploads.remove())
        table = None if order.schema is not None else await _describe(core, order.table)
        manifest = await wire.work(partial(_write, core, backfill, order, shapes, table))
    except BaseException:
        await wire.work(uploads.remove)
        raise
    if manifest is None:  # somebody was first
        await wire.work(uploads.remove)
        manifest = await wire.work(backfill.manifest)
        _check_same(order, manifest)
    else:
        await wire.hint(order.backfill_id, range(min(_HINTS, len(manifest.parts))))
    return await follow(core, backfill, manifest)


def _open(core: AsyncCore, backfill_id: str) -> Backfill:
    return Backfill(core.staging, backfill_id, signer_of(core.settings))


def _manifest_if_any(backfill: Backfill) -> Manifest | None:
    return backfill.manifest() if (backfill.folder / "manifest.json").is_file() else None


def _check_same(order: Order, known: Manifest) -> None:
    asked = (order.table, order.mode, order.partition_by, order.sort_by)
    if asked != (known.table, known.mode, known.partition_by, known.sort_by):
        raise RequestIdConflict(
            f"id {order.backfill_id} is that of another backfill ({known.mode} to table "
            f"{known.table}): the same id must come with the same options",
            request_id=order.backfill_id,
            table=order.table,
        )


def _look(order: Order, sources: Sources, uploads: Uploads, *, upload: bool) -> list[Shape]:
    """Find the files, upload what workers do not see, and read what the files say of themselves."""
    paths: list[str | os.PathLike[str]] = []
    files = list(uploads.write(_frames(sources, paths)))
    found = find_files(paths, near=uploads.folder)
    files += [uploads.copy(file) for file in found] if upload else found
    return read_shapes(files, order.csv)


def _frames(sources: Sources, paths: list[str | os.PathLike[str]]) -> Iterator[Frame]:
    """Give the frames as they come, and set the paths aside."""
    for source in each_source(sources):
        if isinstance(source, str | os.PathLike):
            paths.append(source)
        else:
            yield source


async def _describe(core: AsyncCore, table: str) -> dict[str, Any] | None:
    query = Detail(request_id=new_request_id(), client_id=core.client_id, table=table)
    ask = partial(core.answer, query, lambda outcome: nullcontext(dict(outcome.value)))
    try:
        try:
            return await ask(timeout=_SILENT_SECONDS)
        except ResultTimeout:
            logger.info("waiting for a worker to tell the columns of table %s", table)
            return await ask(timeout=_ANSWER_SECONDS)
    except TableNotFound:
        return None


def _write(
    core: AsyncCore,
    backfill: Backfill,
    order: Order,
    shapes: list[Shape],
    table: dict[str, Any] | None,
) -> Manifest | None:
    manifest = manifest_of(
        order,
        shapes,
        table=table,
        client_id=core.client_id,
        user=user_of(core.settings),
        folder=backfill.folder,
    )
    try:
        backfill.write_manifest(manifest)
    except FileExistsError:
        return None
    return manifest


async def follow(core: AsyncCore, backfill: Backfill, manifest: Manifest) -> BaseFuture[Outcome]:
    """Make the future of a backfill that has begun."""
    reader = ProgressReader(backfill)
    future = core.wire.backfill_future(
        backfill.backfill_id,
        manifest.table,
        partial(cancel, core, backfill.backfill_id),
        partial(look, core, reader),
    )
    pending = PendingBackfill(
        future, backfill=backfill, listener=core.listener, helpers=core.wire.helpers
    )
    followed = core.listener.add(pending).future
    core.listener.start()  # not awaited: the backfill has begun, whether Redis is there or not
    if followed is future:
        pending.unknown()  # it may have ended long ago
    return followed


async def look(core: AsyncCore, reader: ProgressReader) -> BackfillProgress:
    """Tell how far a backfill is, with what only Redis knows while it answers."""
    progress = await core.wire.work(reader.read)
    try:
        if progress.state is BackfillState.ADOPTING:
            (progress,) = await _with_commits(core, [progress])
        elif progress.state is BackfillState.PREPARING:
            claims = await _claims(core, progress, reader.missing()[:_MOST_CLAIMS])
            progress = replace(progress, stragglers=reader.stragglers(claims))
    except QueueUnavailable as exc:  # the rest can be told all the same
        logger.debug("backfill %s: Redis was not asked: %s", progress.backfill_id, exc)
    return progress


async def _claims(
    core: AsyncCore, progress: BackfillProgress, numbers: list[int]
) -> list[tuple[int, Claim]]:
    if not numbers:
        return []
    names = [keys.prepare_claim(progress.table, progress.backfill_id, n) for n in numbers]
    held = await core.wire.strings(names)
    return [(n, _claim(wire)) for n, wire in zip(numbers, held, strict=True) if wire]


async def _with_commits(
    core: AsyncCore, adopting: list[BackfillProgress]
) -> list[BackfillProgress]:
    """Tell which are adopted already: workers note it in the folder a moment later."""
    ids = [(progress.table, progress.backfill_id) for progress in adopting]
    return [
        progress_with(progress, outcome)
        for progress, outcome in zip(adopting, await core.wire.outcomes(ids), strict=True)
    ]


def _claim(wire: str) -> Claim:
    return msgspec.json.decode(wire, type=Claim)


async def cancel(core: AsyncCore, backfill_id: str) -> bool:
    """Stop a backfill as long as parts are prepared; see :meth:`Client.cancel_backfill`."""
    core.check_open()
    backfill = _open(core, backfill_id)
    manifest = await core.wire.work(partial(_manifest, core, backfill))
    ending = await core.wire.work(partial(_cancelled, backfill))
    if ending is Ending.ADOPTING:  # perhaps no worker has begun with that
        return await core.cancel(manifest.table, backfill_id)
    if ending is not Ending.CANCELLED:
        return False
    core.listener.settle(
        Outcome(
            request_id=backfill_id,
            table=manifest.table,
            operation="backfill",
            state=State.CANCELLED,
        )
    )
    return True


def _cancelled(backfill: Backfill) -> Ending | None:
    """Cancel a backfill unless its end is decided; tell the end."""
    backfill.decide(Verdict(ending=Ending.CANCELLED, at_ms=time.time_ns() // 1_000_000))
    decided = backfill.verdict()
    return None if decided is None else decided.ending


async def resume(core: AsyncCore, backfill_id: str) -> BaseFuture[Outcome]:
    """Have workers go on with a backfill; see :meth:`Client.resume_backfill`."""
    core.check_open()
    backfill = _open(core, backfill_id)
    manifest = await core.wire.work(partial(_manifest, core, backfill))
    await core.patiently(core.wire.ping)
    deadline = time.monotonic() + _CLEAN_SECONDS
    while not await core.wire.work(partial(_reopened, backfill)):
        if time.monotonic() >= deadline:
            raise ResultTimeout(
                f"no worker has removed what was prepared of backfill {backfill_id} within "
                f"{_CLEAN_SECONDS:g} s: does one run?",
                request_id=backfill_id,
                table=manifest.table,
            )
        await core.wire.pause(_PAUSE)
    await core.wire.hint(backfill_id, range(min(_HINTS, len(manifest.parts))))
    return await follow(core, backfill, manifest)


def _reopened(backfill: Backfill) -> bool:
    """Reopen a backfill that failed or was cancelled; tell whether its files are removed by now."""
    verdict = backfill.verdict()
    if verdict is None or verdict.ending in (Ending.ADOPTING, Ending.ADOPTED):
        return True
    if verdict.cleaned:
        manifest = backfill.manifest()
        mended = replanned(backfill, manifest) or manifest
        backfill.replan(structs.replace(mended, resumed=manifest.resumed + 1))
        backfill.reopen()
    return verdict.cleaned


async def progress_of(core: AsyncCore, backfill_id: str) -> BackfillProgress:
    """Tell how far a backfill is, of any client."""
    core.check_open()
    backfill = _open(core, backfill_id)
    await core.wire.work(partial(_manifest, core, backfill))
    return await look(core, ProgressReader(backfill))


async def list_all(core: AsyncCore, table: str | None) -> list[BackfillProgress]:
    """List the backfills of a table, or all, oldest first."""
    core.check_open()
    found = await core.wire.work(partial(_list, core, table))
    adopting = [f for f in found if f.state is BackfillState.ADOPTING]
    if adopting:
        try:
            told = {f.backfill_id: f for f in await _with_commits(core, adopting)}
        except QueueUnavailable as exc:  # the rest can be told all the same
            logger.debug("Redis was not asked for %d backfills: %s", len(adopting), exc)
        else:
            found = [told.get(f.backfill_id, f) for f in found]
    return found


def _list(core: AsyncCore, table: str | None) -> list[BackfillProgress]:
    found = [read_progress(_open(core, name)) for name in list_backfills(core.staging)]
    chosen = [f for f in found if table is None or f.table == table]
    return sorted(chosen, key=lambda f: (f.submitted_at is None, f.submitted_at, f.backfill_id))


def _manifest(core: AsyncCore, backfill: Backfill) -> Manifest:
    try:
        return backfill.manifest()
    except StagedDataMissing as exc:
        if (backfill.folder / "manifest.json").is_file():
            raise
        meant = did_you_mean(backfill.backfill_id, list_backfills(core.staging))
        raise InvalidRequest(
            f"there is no backfill {backfill.backfill_id}{meant}; 'deltaq backfill list' shows them",
            request_id=backfill.backfill_id,
        ) from exc
