"""What is found of a table's requests when everything is over."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
from deltalake import DeltaTable

from deltaq.tasks import keys
from deltaq.tasks.inbox import LANES
from deltaq.tasks.location import Location
from deltaq.worker import System
from deltaq.worker.engines.native_maintenance import remove_unneeded
from deltaq.worker.lake import Lake
from tests.fault.work import Row
from tests.support.log import committed_requests, committed_versions
from tests.support.paths import as_path
from tests.support.places import files_in
from tests.support.sweeping import make_sweeper

#: What Delta and Spark keep in a log; Hadoop puts a hidden checksum beside each file it writes.
_LOG_NAMES = re.compile(
    r"\d{20}\.(json|crc|checkpoint(\..*)?\.parquet)|_last_checkpoint|\..*\.crc|_sidecars"
)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the caller of one table's requests was told.

    Attributes:
        versions: By request id, the version it was committed in.
        errors: By request id, the code of its error.
        pending: Request ids whose futures are not done.
    """

    versions: dict[str, int | None] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one table and the queue show after a fault.

    Attributes:
        told: What the caller knows.
        committed: Request id and version of each request in the log, in its order.
        sequences: Their sequences.
        rows: The table's rows, sorted.
        leftovers: Leases, entries, staged files and data files that nobody would clear away.
        dead: Request ids of the dead letters.
    """

    told: Told
    committed: list[tuple[str, int]]
    sequences: list[int]
    rows: list[Row]
    leftovers: list[str]
    dead: set[str]


def tell(futures: Mapping[str, Any]) -> Told:
    """Sort what futures, given by request id, have been told."""
    told = Told()
    for request_id, future in futures.items():
        if not future.done():
            told.pending.append(request_id)
        elif error := future.exception(0):
            told.errors[request_id] = error.code
        else:
            told.versions[request_id] = future.result(0).version
    return told


def clean(system: System) -> None:
    """Do what the sweeper does every few minutes."""
    with system.redis.connect() as client:
        make_sweeper(client, system.settings).clean(older_than=0, unfinished_for=0)


def gather(system: System, table: str, told: Told) -> Evidence:
    """Look at a table, its Redis keys and its folders; removes what vacuum would remove."""
    path = as_path(system.settings.lake) / table
    return Evidence(
        told=told,
        committed=committed_versions(path),
        sequences=[sequence for _, sequence, _ in committed_requests(path)],
        rows=_rows(path),
        leftovers=leftovers(system, table),
        dead={f.stem for f in (system.settings.staging_root / "dead" / table).glob("*")},
    )


def leftovers(system: System, table: str) -> list[str]:
    """Name what nobody would clear away; removes what vacuum would remove."""
    with system.redis.connect() as client:
        queued = [*_in_redis(client, table)]
    return [*queued, *_staged(system, table), *_strays(system, table)]


def _in_redis(client: redis.Redis, table: str) -> Iterator[str]:
    if client.exists(keys.lease(table)):
        yield f"lease of {client.hget(keys.lease(table), 'holder')!r}"
    for lane in LANES:
        if count := client.xlen(keys.inbox(table, lane)):
            yield f"{count} entries in lane {lane}"
    if client.sismember(keys.TABLES, table):
        yield "the table counts as waiting"
    for counter, size in _waiting_bytes(client, table):
        yield f"{size} {counter} counted as waiting"


def _waiting_bytes(client: redis.Redis, table: str) -> Iterator[tuple[str, int]]:
    for lane in LANES:
        size: Any = client.hget(keys.seq(table), f"bytes:{lane}")
        if int(size or 0):
            yield f"bytes of lane {lane}", int(size)


def _staged(system: System, table: str) -> Iterator[str]:
    staging = system.settings.staging_root
    for file in (staging / "requests" / table).glob("*"):
        yield f"staged file {file.name}"
    for file in (staging / "dead" / table).glob("*.json"):
        if not file.with_suffix(".parquet").exists():
            yield f"reason {file.name} without its dead letter"


def _rows(path: Location) -> list[Row]:
    table = DeltaTable(str(path)).to_pyarrow_table(columns=["id", "made_by"])
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _strays(system: System, table: str) -> Iterator[str]:
    """Vacuum the table, and name the files that are neither gone nor the table's."""
    path = Lake(system.settings.lake).path(table)
    remove_unneeded(DeltaTable(str(path)), path, hours=0, force=True)
    wanted = {uri.removeprefix("file://") for uri in DeltaTable(str(path)).file_uris()}
    for file in files_in(path):
        checked = file.with_name(file.name.removeprefix(".").removesuffix(".crc"))
        in_log = file.parent.name == "_delta_log" and _LOG_NAMES.fullmatch(file.name)
        if not (in_log or {str(file), str(checked)} & wanted):
            yield f"stray file {file}"
