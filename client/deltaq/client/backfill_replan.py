"""A backfill whose sources were mended after it failed: the same files, cut anew."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from deltaq.client.backfill_plan import plan_parts
from deltaq.client.backfill_schemas import check_columns, read_shapes
from deltaq.client.backfill_sources import find_files
from deltaq.tasks.backfill import Backfill
from deltaq.tasks.manifest import Manifest


def replanned(backfill: Backfill, manifest: Manifest) -> Manifest | None:
    """Plan the parts of a backfill anew; None if its sources have the sizes that they had.

    The columns stay what they are.

    Raises:
        InvalidRequest: A source is gone.
        InvalidFrame: One is damaged.
        SchemaMismatch: One has columns that the others have not.
        StorageUnavailable: One cannot be read now.
    """
    known = {backfill.source(piece): piece for part in manifest.parts for piece in part.slices}
    files = find_files(known, near=backfill.folder)
    if {f.path: f.size_bytes for f in files} == {p: known[p].file_bytes for p in known}:
        return None
    found = read_shapes(files, manifest.csv)
    check_columns(found, {column.name for column in manifest.columns})
    # Of a file that was uploaded the folders are no longer known.
    shapes = [replace(shape, values=known[shape.file.path].values) for shape in found]
    multiline = manifest.csv.multiline or any(shape.multiline for shape in shapes)
    parts = plan_parts(
        shapes, parts=len(manifest.parts), multiline=multiline, folder=backfill.folder
    )
    return structs.replace(
        manifest, parts=parts, csv=structs.replace(manifest.csv, multiline=multiline)
    )
