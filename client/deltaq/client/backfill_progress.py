"""How far a backfill is, as its folder in the staging area says."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from deltaq.tasks.backfill import Backfill, Claim, Ending, Prepared, Verdict, parts_after
from deltaq.tasks.error_info import ErrorInfo, info_from_error
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.manifest import Manifest, Part
from deltaq.tasks.outcome import Outcome, State

#: A part is a straggler when it takes so many times as long as the median of those prepared ...
_STRAGGLES = 3.0
#: ... and at least so many seconds: little parts differ without meaning.
_AT_LEAST = 10.0


class BackfillState(StrEnum):
    """Where a backfill stands.

    Examples:
        >>> future = client.backfill("loads", frame)
        >>> outcome = future.result(timeout=30)
        >>> future.progress().state is BackfillState.ADOPTED
        True
    """

    PREPARING = "preparing"
    ADOPTING = "adopting"
    ADOPTED = "adopted"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: Its manifest cannot be read, or was not signed by who has the key.
    UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True)
class Straggler:
    """A part that takes far longer than others.

    Attributes:
        part: Its number.
        worker: Who prepares it.
        seconds: For how long.
    """

    part: int
    worker: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class BackfillProgress:
    """How far a backfill is.

    Attributes:
        backfill_id: Its id.
        table: The table that is loaded.
        state: Where it stands.
        mode: ``append``, ``overwrite`` or ``replace_partitions``.
        submitted_at: When it was submitted, UTC.
        submitted_by: By whom.
        parts: Parts in all; more when one is cut, because it has many more rows than others.
        prepared: Parts that are prepared.
        rows: Rows of these.
        source_bytes: Bytes of source of these.
        source_bytes_total: Of all.
        seconds: Since it was submitted, until it ended.
        stragglers: Parts that take far longer than others.
        version: Version of the table that has the rows, once adopted.
        files: Files that it added to the table.
        error: Why it failed.
    """

    backfill_id: str
    table: str
    state: BackfillState
    mode: str = ""
    submitted_at: datetime | None = None
    submitted_by: str | None = None
    parts: int = 0
    prepared: int = 0
    rows: int = 0
    source_bytes: int = 0
    source_bytes_total: int = 0
    seconds: float = 0.0
    stragglers: tuple[Straggler, ...] = ()
    version: int | None = None
    files: int | None = None
    error: ErrorInfo | None = None

    @property
    def total(self) -> int:
        """All parts."""
        return self.parts

    @property
    def done(self) -> int:
        """Those that are prepared."""
        return self.prepared

    @property
    def mb_per_second(self) -> float:
        """Megabytes of source prepared in a second, of all workers together."""
        return self.source_bytes / 1e6 / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate by the bytes that are left; None before the first part is prepared."""
        if not self.source_bytes:
            return None
        left = self.source_bytes_total - self.source_bytes
        return self.seconds / self.source_bytes * left

    def __str__(self) -> str:
        told = [f"{self.state}: {self.prepared} of {self.parts} parts", f"{self.rows:,} rows"]
        if self.source_bytes:
            told.append(f"{self.mb_per_second:,.1f} MB/s")
        if self.state is BackfillState.PREPARING and self.seconds_left is not None:
            told.append(f"{self.seconds_left:.0f} s left")
        for straggler in self.stragglers[:1]:
            told.append(
                f"part {straggler.part} on {straggler.worker} since {straggler.seconds:.0f} s"
            )
        return ", ".join(told)


class ProgressReader:
    """Reads a backfill's folder again and again; what it has seen it does not read twice.

    Args:
        backfill: The folder.
    """

    def __init__(self, backfill: Backfill) -> None:
        self._backfill = backfill
        self._manifest: Manifest | None = None
        self._seen: dict[int, Prepared] = {}

    def manifest(self) -> Manifest:
        """Read what is to be done; it does not change."""
        if self._manifest is None:
            self._manifest = self._backfill.manifest()
        return self._manifest

    def read(self) -> BackfillProgress:
        """Tell how far it is, without stragglers.

        Raises:
            StagedDataMissing: There is no such backfill any more.
            StorageUnavailable: The staging area cannot be read.
        """
        manifest = self.manifest()
        verdict = self._backfill.verdict()
        seen = self._prepared()
        prepared = [part for part in seen.values() if not part.pieces]
        now_ms = time.time_ns() // 1_000_000 if verdict is None else verdict.at_ms
        total = sum(part.size_bytes for part in manifest.parts)
        whole = verdict is not None and verdict.ending is Ending.ADOPTED
        return BackfillProgress(
            backfill_id=manifest.backfill_id,
            table=manifest.table,
            state=_state(verdict),
            mode=manifest.mode,
            submitted_at=datetime.fromtimestamp(manifest.submitted_at_ms / 1000, UTC),
            submitted_by=manifest.submitted_by,
            parts=len(self._parts()),
            prepared=len(self._parts()) if whole else len(prepared),
            rows=(verdict.rows if verdict else None) or sum(p.rows for p in prepared),
            source_bytes=total if whole else sum(p.source_bytes for p in prepared),
            source_bytes_total=total,
            seconds=max(0.0, (now_ms - manifest.submitted_at_ms) / 1000),
            version=verdict.version if verdict else None,
            files=verdict.files if verdict else None,
            error=verdict.error if verdict else None,
        )

    def _prepared(self) -> dict[int, Prepared]:
        there = self._backfill.prepared()
        for number in there - self._seen.keys():
            if (part := self._backfill.part(number)) is not None:
                self._seen[number] = part
        # After a failure they are prepared anew.
        self._seen = {number: part for number, part in self._seen.items() if number in there}
        return self._seen

    def missing(self) -> list[int]:
        """List the parts that were not prepared when it was read last."""
        return [part.number for part in self._parts() if part.number not in self._seen]

    def _parts(self) -> list[Part]:
        """List the parts, with pieces for those that were cut when it was read last."""
        cut = {part.number: part.pieces for part in self._seen.values() if part.pieces}
        return list(parts_after(self.manifest().parts, cut))

    def stragglers(self, claims: Sequence[tuple[int, Claim]]) -> tuple[Straggler, ...]:
        """Find the parts that take far longer than others, the slowest first."""
        taken = [part.seconds for part in self._seen.values() if not part.pieces]
        usual = statistics.median(taken) if taken else 0.0
        now_ms = time.time_ns() // 1_000_000
        found = [
            Straggler(part=n, worker=c.worker, seconds=max(0.0, (now_ms - c.began_at_ms) / 1000))
            for n, c in claims
        ]
        slow = [s for s in found if s.seconds > max(_AT_LEAST, _STRAGGLES * usual)]
        return tuple(sorted(slow, key=lambda s: -s.seconds))


def read_progress(backfill: Backfill) -> BackfillProgress:
    """Tell how far a backfill is, also of one that cannot be read."""
    try:
        return ProgressReader(backfill).read()
    except DeltaqError as exc:
        return BackfillProgress(
            backfill_id=backfill.backfill_id,
            table="",
            state=BackfillState.UNREADABLE,
            error=info_from_error(exc),
        )


def progress_with(progress: BackfillProgress, outcome: object) -> BackfillProgress:
    """Put what Redis knows of a backfill's request to what the folder says.

    Of one that is committed nothing is taken from the notes of its parts: a worker may have been
    about to remove them when they were read.
    """
    if not isinstance(outcome, Outcome) or outcome.state is not State.COMMITTED:
        return progress
    return replace(
        progress,
        state=BackfillState.ADOPTED,
        version=outcome.version,
        prepared=progress.parts,
        rows=progress.rows if outcome.rows is None else outcome.rows,
        source_bytes=progress.source_bytes_total,
    )


def _state(verdict: Verdict | None) -> BackfillState:
    return BackfillState.PREPARING if verdict is None else BackfillState(verdict.ending)
