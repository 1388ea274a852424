"""Which engine performs a group of requests, and why."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from deltaq.tasks.errors import ConfigurationError, EngineRefused, StorageUnavailable
from deltaq.tasks.query import Read, Sql
from deltaq.tasks.request import (
    Adopt,
    Append,
    Checkpoint,
    Convert,
    Create,
    Drop,
    EngineName,
    Merge,
    Optimize,
    Request,
    TableChange,
    Vacuum,
)
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import MiB, Settings
from deltaq.tasks.signing import signer_of
from deltaq.tasks.staging import StagingArea
from deltaq.worker.backfill.vacuuming import check_vacuum
from deltaq.worker.drops import Drops
from deltaq.worker.engines import Commit, Engine, NotNative, Parts, RowCounts
from deltaq.worker.engines.asked import moment
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.native_adopt import Adopter
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.groups import CommitGroup
from deltaq.worker.lake import Lake
from deltaq.worker.maintenance.open_reads import OpenReads
from deltaq.worker.remembered import Remembered
from deltaq.worker.selects import parse_select

_T = TypeVar("_T")

logger = logging.getLogger(__name__)

#: Seconds for which a table that native refused is not tried again.
_REFUSED_FOR = 60.0
#: Files in S3 that are read while the ledger is, and how large they may be.
_AHEAD, _SMALL = 8, 4 * MiB
#: Seconds. After a native commit Spark reads the table's state anew, and its next commit takes
#: 3 to 5 times as long; so a table that needs Spark twice within this stays with it as long.
_ALTERNATING = 5.0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An engine and the reason for it, as the outcome tells it."""

    engine: Engine
    reason: str


@dataclass(frozen=True, kw_only=True)
class Performed:
    """A commit and who made it."""

    commit: Commit
    #: None for a drop, which is not an engine's.
    engine: EngineName | None
    reason: str


class Router:
    """Chooses an engine for each group and falls through to Spark when native refuses.

    Args:
        native: The engine for small and medium work; None when settings say ``engine=spark``.
        spark: The engine for everything; None when settings say ``spark=off``.
        settings: ``engine``, ``native_max_bytes``, and where dropped tables are.
        open_reads: Tells those who vacuum what is being read; None where nobody else is there.
    """

    def __init__(
        self,
        *,
        native: NativeEngine | None,
        spark: SparkEngine | None,
        settings: Settings,
        open_reads: OpenReads | None = None,
    ) -> None:
        if native is None and spark is None:
            raise ConfigurationError("engine=spark and spark=off leave no engine")
        self._native = native
        self._spark = spark
        self._settings = settings
        self._open_reads = open_reads
        staging = self._staging = StagingArea(settings.staging_root)
        self._drops = Drops(Lake(settings.lake), staging, keep=settings.outcome_ttl)
        self._adopter = Adopter(Lake(settings.lake), staging, signer_of(settings))
        self._prefers_spark = Remembered()
        self._needed_spark = Remembered()

    def choose(self, group: CommitGroup) -> Choice:
        """Choose the engine for a group.

        The request's own wish decides, then the worker's setting; otherwise native, unless
        it refused the table lately, other requests keep Spark busy with the table, or the work
        touches more than ``native_max_bytes``.

        Raises:
            EngineRefused: What the request or the worker insists on is not to be had here.
        """
        wish = group.first.engine
        if wish == "spark":
            return self._spark_needed(group, "the request asks for it")
        if self._native is None:
            if wish == "native":
                raise EngineRefused("this worker runs with engine=spark; leave out engine=")
            return self._on_spark("the worker runs with engine=spark")
        insisted = wish == "native" or self._settings.engine == "native"
        preference = self._prefers_spark.recall(group.table)
        if preference is not None and not insisted:
            return self._on_spark(preference)
        touched, limit = self._touched_bytes(group), self._settings.native_max_bytes
        if touched > limit:
            reason = f"it touches {touched} bytes, more than native_max_bytes={limit}"
            if insisted:
                raise EngineRefused(
                    f"table {group.table}: {reason}; raise the setting or let Spark do it",
                    table=group.table,
                    details={"touched_bytes": touched, "native_max_bytes": limit},
                )
            return self._spark_needed(group, reason)
        return Choice(engine=self._native, reason="asked for" if insisted else "small enough")

    def apply(self, group: CommitGroup) -> Performed:
        """Perform a group: one Delta commit.

        Raises:
            EngineRefused: No engine that may do it can.
            RequestError, TransientError: As ``Engine.apply`` says.
        """
        if isinstance(group.first, Drop):
            self._drops.drop(group.first)
            gone = Commit(version=None, counts=(RowCounts(),))
            return Performed(commit=gone, engine=None, reason="no engine drops tables")
        if isinstance(group.first, Adopt):
            commit = self._adopter.adopt(group)
            return Performed(commit=commit, engine="native", reason="no row is read for it")
        if isinstance(group.first, Vacuum):
            group = self._sparing(group, group.first)
        choice = self.choose(group)
        try:
            commit = choice.engine.apply(group)
        except NotNative as refusal:
            choice = self._after_refusal(group, refusal)
            logger.info("table %s: Spark takes over: %s", group.table, refusal.reason)
            commit = choice.engine.apply(group)
        return Performed(commit=commit, engine=choice.engine.name, reason=choice.reason)

    def _sparing(self, group: CommitGroup, request: Vacuum) -> CommitGroup:
        """Have a vacuum spare what backfills have prepared and what is being read."""
        if not request.dry_run:
            check_vacuum(request, self._staging)
        if self._open_reads is None:
            return group
        in_use = self._open_reads.of(group.table)
        hours = max(request.retention_hours, in_use.hours)
        spared = msgspec.structs.replace(request, retention_hours=hours)
        members = (replace(group.members[0], request=spared),)
        return replace(group, members=members, read_versions=in_use.versions)

    def _reading(self, query: Read | Sql) -> AbstractContextManager[None]:
        """Note that the tables of a query are being read."""
        if self._open_reads is None:
            return nullcontext()
        if isinstance(query, Sql):
            return self._open_reads.hold(parse_select(query.text).tables)
        timestamp = query.timestamp
        at = None if timestamp is None else moment(timestamp, name=query.table).timestamp()
        return self._open_reads.hold([query.table], version=query.version, timestamp=at)

    def _after_refusal(self, group: CommitGroup, refusal: NotNative) -> Choice:
        if group.first.engine == "native" or self._settings.engine == "native":
            raise EngineRefused(
                f"table {group.table}: native cannot do this: {refusal.reason}; "
                "leave out engine= or run a worker with engine=auto",
                table=group.table,
            ) from refusal
        if refusal.of_table:
            self._prefers_spark.remember(group.table, refusal.reason, _REFUSED_FOR)
            return self._on_spark(refusal.reason)
        return self._spark_needed(group, refusal.reason)

    def _spark_needed(self, group: CommitGroup, reason: str) -> Choice:
        """Choose Spark for a group that cannot do without, and see whether the table stays."""
        if self._needed_spark.recall(group.table):
            stays = "other requests on the table need Spark, and taking turns is slow"
            self._prefers_spark.remember(group.table, stays, _ALTERNATING)
        self._needed_spark.remember(group.table, reason, _ALTERNATING)
        return self._on_spark(reason)

    def _touched_bytes(self, group: CommitGroup) -> int:
        """Estimate what native would hold in memory: the frames, and the table if it is read."""
        staged = sum(request.size_bytes for request in group.requests)
        if (
            isinstance(group.first, Append | Create | Convert | TableChange | Vacuum | Checkpoint)
            or self._native is None
        ):
            return staged
        if isinstance(group.first, Merge) and group.first.update == ():
            return staged
        if isinstance(group.first, Optimize):
            ordered = bool(group.first.zorder)
            return staged + self._native.slice_bytes(group.table, ordered=ordered)
        return staged + self._native.table_bytes(group.table)

    def _on_spark(self, reason: str) -> Choice:
        if self._spark is None:
            raise EngineRefused(
                f"this needs Spark ({reason}), and the worker runs with spark=off; "
                "set spark=on for all workers of this Redis"
            )
        return Choice(engine=self._spark, reason=reason)

    def tidy(self, group: CommitGroup, performed: Performed) -> None:
        """Do what a commit leaves to do, once its callers have been told."""
        if isinstance(group.first, Drop):
            try:
                self._drops.bury(group.first)
            except StorageUnavailable as exc:
                logger.warning("table %s is dropped, but not its files: %s", group.table, exc)
        elif self._native is not None and performed.engine == self._native.name:
            self._native.tidy(group.table)

    def interrupt(self, group: CommitGroup) -> None:
        """End the Spark jobs of a group, if any; native work ends by itself in no time.

        Raises:
            EngineUnavailable: Spark does not answer.
        """
        if self._spark is not None:
            self._spark.interrupt(group)

    def expect(self, requests: Iterable[Request]) -> None:
        """Begin to read the first of requests that will be performed soon, if they are in S3."""
        if not isinstance(self._staging.root, S3Path):
            return
        for request in islice(requests, _AHEAD):
            path = self._staging.request_path(request.table, request.request_id)
            assert isinstance(path, S3Path)
            if request.size_bytes <= _SMALL:
                path.fetch_ahead()

    def ledger(self, table: str, app_id: str) -> int:
        """Read the last committed sequence of a table; -1 for none.

        Raises:
            StorageUnavailable: The lake cannot be read now.
        """
        return self._first_that_can(lambda engine: engine.ledger(table, app_id))[0]

    def read(self, query: Read, destination: Path) -> tuple[int, int, EngineName]:
        """Perform a read, as ``Engine.read``; return version, rows and the engine's name."""
        with self._reading(query):
            return self._read(query, destination)

    def _read(self, query: Read, destination: Path) -> tuple[int, int, EngineName]:
        engine: Engine
        if query.engine == "spark":
            engine = self._on_spark("the request asks for it").engine
            return (*engine.read(query, destination), engine.name)
        (version, rows), name = self._first_that_can(
            lambda engine: engine.read(query, destination), insisted=query.engine == "native"
        )
        return version, rows, name

    def scan(self, query: Read, parts: Parts) -> tuple[int, EngineName]:
        """Perform a scan, as ``Engine.scan``; return version and the engine's name."""
        with self._reading(query):
            return self._scan(query, parts)

    def _scan(self, query: Read, parts: Parts) -> tuple[int, EngineName]:
        if query.engine == "spark":
            engine = self._on_spark("the request asks for it").engine
            return engine.scan(query, parts), engine.name

        def scan(engine: Engine) -> int:
            try:
                return engine.scan(query, parts)
            except NotNative as refusal:
                if not parts.count:
                    raise
                raise EngineRefused(  # Spark would begin again
                    f"native gave up in the middle: {refusal.reason}; scan with engine='spark'"
                ) from refusal

        return self._first_that_can(scan, insisted=query.engine == "native")

    def sql(self, query: Sql, destination: Path) -> tuple[int, EngineName]:
        """Run a SELECT, as ``Engine.sql``; return the rows and the engine's name."""
        with self._reading(query):
            return self._sql(query, destination)

    def _sql(self, query: Sql, destination: Path) -> tuple[int, EngineName]:
        if query.engine == "spark":
            engine = self._on_spark("the request asks for it").engine
            return engine.sql(query, destination), engine.name
        return self._first_that_can(
            lambda engine: engine.sql(query, destination), insisted=query.engine == "native"
        )

    def history(self, table: str, limit: int) -> tuple[pa.Table, EngineName]:
        """Read the newest commits, as ``Engine.history``, and name the engine."""
        return self._first_that_can(lambda engine: engine.history(table, limit))

    def detail(self, table: str) -> tuple[dict[str, Any], EngineName]:
        """Describe a table, as ``Engine.detail``, and name the engine."""
        return self._first_that_can(lambda engine: engine.detail(table))

    def analyze(self, table: str) -> tuple[dict[str, Any], EngineName]:
        """Tell how a table is stored, as ``Engine.analyze``, and name the engine."""
        return self._first_that_can(lambda engine: engine.analyze(table))

    def _first_that_can(
        self, ask: Callable[[Engine], _T], *, insisted: bool = False
    ) -> tuple[_T, EngineName]:
        engine: Engine
        if self._native is None:
            engine = self._on_spark("the worker runs with engine=spark").engine
            return ask(engine), engine.name
        try:
            return ask(self._native), self._native.name
        except NotNative as refusal:
            if insisted or self._settings.engine == "native":
                raise EngineRefused(f"native cannot do this: {refusal.reason}") from refusal
            engine = self._on_spark(refusal.reason).engine
        return ask(engine), engine.name
