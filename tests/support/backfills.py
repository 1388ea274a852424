"""Backfills without a client: manifests over files that tests write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.tasks.backfill import Backfill, Prepared
from deltaq.tasks.location import Location
from deltaq.tasks.manifest import Format, Manifest, Part, Slice, piece_numbers
from deltaq.tasks.request import Column, new_request_id
from deltaq.tasks.s3 import S3Options
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.staging import StagingArea
from deltaq.worker.backfill.preparing import Job, prepare
from deltaq.worker.engines.delta_types import delta_name

CLIENT_ID = "0" * 32


def columns_of(schema: pa.Schema) -> tuple[Column, ...]:
    return tuple(Column(name=f.name, type=delta_name(f.type), nullable=f.nullable) for f in schema)


def slice_of(path: Path, **piece: Any) -> Slice:
    return Slice(path=str(path), file_bytes=path.stat().st_size, **piece)


def part_of(number: int, *slices: Slice, format: Format = "parquet") -> Part:
    size = sum(piece.file_bytes for piece in slices)
    return Part(number=number, format=format, slices=slices, size_bytes=size)


def manifest_of(schema: pa.Schema, parts: Sequence[Part], **more: Any) -> Manifest:
    given = {"backfill_id": new_request_id(), "table": "prices", **more}
    return Manifest(
        client_id=CLIENT_ID,
        submitted_at_ms=time.time_ns() // 1_000_000,
        columns=columns_of(schema),
        parts=tuple(parts),
        **given,
    )


def parquet_parts(folder: Path, frames: Sequence[pa.Table]) -> list[Part]:
    """Write a file for each frame, and make a part of each."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, frame in enumerate(frames):
        path = folder / f"{number}.parquet"
        pq.write_table(frame, path)
        parts.append(part_of(number, slice_of(path)))
    return parts


def begin(staging: StagingArea, manifest: Manifest) -> Backfill:
    backfill = Backfill(staging, manifest.backfill_id)
    backfill.write_manifest(manifest)
    return backfill


def prepare_here(manifest: Manifest, lake: Location, work: Path, **more: Any) -> list[Prepared]:
    """Prepare all parts in this process, and the pieces of those that are cut."""
    done = []
    waiting = list(reversed(manifest.parts))
    while waiting:
        part = waiting.pop()
        job = Job(
            manifest=msgspec.structs.replace(manifest, parts=(part,)),
            folder="/",
            table=str(lake / manifest.table),
            work=str(work),
            worker="test",
            allowed=("/",),
            piece_numbers=tuple(piece_numbers(part.number, len(manifest.parts))),
            s3=lake.bucket.options if isinstance(lake, S3Path) else S3Options(),
            **more,
        )
        done.append(prepare(job))
        waiting.extend(reversed(done[-1].pieces))
    return done


def rows_of(prepared: Sequence[Prepared], table: Path) -> pa.Table:
    """Read the columns that are in prepared files, in their order."""
    files = [file for part in prepared for file in part.files]
    return pa.concat_tables([pq.read_table(table / f.path, partitioning=None) for f in files])
