"""Prepares one part: sources in, files in the table's folder out, in no version of the table."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import TableNotFoundError

from deltaq.tasks.backfill import Prepared
from deltaq.tasks.batches import gather
from deltaq.tasks.error_info import ErrorInfo, info_from_error
from deltaq.tasks.errors import (
    ConstraintViolated,
    DeltaqError,
    EngineRefused,
    RequestError,
    StorageUnavailable,
)
from deltaq.tasks.location import Location, parse_location
from deltaq.tasks.manifest import Manifest, Part
from deltaq.tasks.s3 import S3Options
from deltaq.worker.backfill.cutting import Seen, cut
from deltaq.worker.backfill.layout import Layout
from deltaq.worker.backfill.plan import LoadPlan, plan_load
from deltaq.worker.backfill.sources import PartReader
from deltaq.worker.engines import NotNative
from deltaq.worker.engines.columns import check_partition_values
from deltaq.worker.engines.native_errors import native_errors
from deltaq.worker.engines.urls import open_table

#: Bytes of rows that are held, partitioned and sorted at a time: a round. A part of more has
#: several rounds of files, each sorted in itself; one of many more is cut, for others to share.
ROUND_BYTES = 192 << 20


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A part to prepare: the manifest with that part alone, and where things are."""

    manifest: Manifest
    folder: str
    table: str
    work: str
    worker: str
    #: Folders from which sources may be read, as the setting backfill_sources.
    allowed: tuple[str, ...]
    #: Those of the pieces that the part may be cut into.
    piece_numbers: tuple[int, ...] = ()
    round_bytes: int = ROUND_BYTES
    #: How S3 is reached, if that is where something is: it goes through a pipe only.
    s3: S3Options = S3Options()

    def place(self, name: str) -> Location:
        """Locate a folder of the job."""
        return parse_location(name, self.s3)


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a part: it is prepared, or why it is not."""

    part: int
    prepared: Prepared | None = None
    error: ErrorInfo | None = None


def answer_to(job: Job) -> Answer:
    """Prepare a part, or say why it cannot be."""
    part = job.manifest.parts[0].number
    try:
        return Answer(part=part, prepared=prepare(job))
    except DeltaqError as exc:
        return Answer(part=part, error=info_from_error(exc))
    except Exception as exc:
        # A mistake of ours: it would happen again, and must not look like a crash.
        traceback.print_exc()
        error = RequestError(f"part {part} cannot be prepared: {type(exc).__name__}: {exc}")
        return Answer(part=part, error=info_from_error(error))


def prepare(job: Job) -> Prepared:
    """Prepare a part, or cut it; its files are durable when this returns.

    Raises:
        SchemaMismatch, InvalidFrame, ConstraintViolated: Rows do not fit; file and place are named.
        StagedDataMissing: A source is gone, damaged or changed.
        InvalidRequest: Workers may not load a source.
        EngineRefused: The table has features whose files only Spark writes.
        StorageUnavailable: It may succeed later.
    """
    began = time.monotonic()
    manifest, (part,) = job.manifest, job.manifest.parts
    plan = planned(manifest, job.place(job.table))
    layout, reader = _layout(job, plan), _reader(job, plan)
    pieces: tuple[Part, ...] = ()
    named = check_partition_values(reader.batches(), plan.partition_by, name=manifest.table)
    for number, rows in enumerate(gather(named, job.round_bytes)):
        if number == 0 and (pieces := _pieces(job, rows, reader.begun)):
            break
        _check_rules(rows, plan, job)
        with _lake_errors(job):
            layout.write(rows)
    with _lake_errors(job):
        layout.sync()
    return Prepared(
        number=part.number,
        files=tuple(layout.files),
        pieces=pieces,
        rows=sum(file.rows for file in layout.files),
        source_bytes=0 if pieces else part.size_bytes,
        seconds=round(time.monotonic() - began, 3),
        worker=job.worker,
        finished_at_ms=time.time_ns() // 1_000_000,
        types=plan.types,
        rules=plan.rules,
        resumed=manifest.resumed,
    )


def _layout(job: Job, plan: LoadPlan) -> Layout:
    manifest, (part,) = job.manifest, job.manifest.parts
    return Layout(
        job.place(job.table),
        manifest.backfill_id,
        part.number,
        partition_by=plan.partition_by,
        sort_by=manifest.sort_by,
        target_bytes=manifest.target_file_bytes,
        resumed=manifest.resumed,
        work=Path(job.work),
    )


def _reader(job: Job, plan: LoadPlan) -> PartReader:
    manifest, (part,) = job.manifest, job.manifest.parts
    return PartReader(
        part,
        job.place(job.folder),
        plan.schema,
        manifest.csv,
        allowed=[job.place(name) for name in job.allowed],
        table=manifest.table,
    )


def _pieces(job: Job, rows: pa.Table, begun: int) -> tuple[Part, ...]:
    """Cut a part before anything of it is written, if its first round tells that it is too large."""
    if rows.nbytes < job.round_bytes:
        return ()  # it is all there is
    seen = Seen(rows=rows.num_rows, size_bytes=rows.nbytes, slices=begun)
    manifest, (part,) = job.manifest, job.manifest.parts
    return cut(part, job.place(job.folder), manifest.csv, seen, job.piece_numbers)


@contextmanager
def _lake_errors(job: Job) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        place = exc.filename or job.table
        raise StorageUnavailable(f"{place}: cannot be written: {exc.strerror or exc}") from exc


def planned(manifest: Manifest, table: Location) -> LoadPlan:
    """Plan a backfill for the table in a folder as it is now.

    Raises:
        EngineRefused: Only Spark writes files for such a table.
        RequestError: As :func:`plan_load` says.
    """
    try:
        with native_errors(manifest.table):
            return plan_load(manifest, table_at(table))
    except NotNative as refusal:
        raise EngineRefused(
            f"table {manifest.table}: a backfill writes no files for it: {refusal.reason}; append "
            "its rows instead",
            table=manifest.table,
        ) from refusal


def table_at(path: Location) -> DeltaTable | None:
    """Open the table in a folder; None if there is none."""
    try:
        return open_table(path)
    except TableNotFoundError:
        return None


def _check_rules(rows: pa.Table, plan: LoadPlan, job: Job) -> None:
    name = job.manifest.table
    sources = ", ".join(piece.path for piece in job.manifest.parts[0].slices[:3])
    for column in plan.required:
        if nulls := rows.column(column).null_count:
            raise ConstraintViolated(
                f"{sources}: column {column!r} is null in {nulls} rows, and must not be in table "
                f"{name}",
                table=name,
                details={"column": column, "rows": nulls, "file": sources},
            )
    for rule, text in plan.constraints.items():
        if broken := _count_broken(rows, text, Path(job.work)):
            raise ConstraintViolated(
                f"{sources}: {broken} rows break rule {rule} ({text}) of table {name}",
                table=name,
                details={"rules": [rule], "rows": broken, "file": sources},
            )


def _count_broken(rows: pa.Table, condition: str, work: Path) -> int:
    """Count rows for which a condition is not true, in DataFusion, which has tables only."""
    folder = work / f"rules-{time.monotonic_ns()}"
    try:
        write_deltalake(str(folder), rows)
        query = f"SELECT count(*) AS n FROM rows WHERE ({condition}) IS NOT TRUE"
        found = QueryBuilder().register("rows", DeltaTable(str(folder))).execute(query)
        return int(pa.table(found.read_all()).column("n")[0].as_py())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
