"""A program that loads frames and waits: ``python -m ... TABLE ID FOLDER [hold]``.

With ``hold`` it stands still when two files are uploaded and a third is about to be. In the folder
it tells how far it is.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from deltaq.client import Client


def _frames(held: Path | None) -> Iterator[pa.Table]:
    """Make frames of different types, each of which becomes a file."""
    for number, kind in enumerate((pa.int16(), pa.int32(), pa.int64())):
        ids = range(number * 100, number * 100 + 100)
        yield pa.table({"id": pa.array(ids, kind), "g": [number] * 100})
    if held is not None:
        held.touch()
        threading.Event().wait()


def _main(table: str, backfill_id: str, folder: Path, *, hold: bool) -> None:
    frames = _frames(folder / "uploading" if hold else None)
    with Client() as client:
        future = client.backfill(
            table, frames, partition_by="g", schema_mode="merge", request_id=backfill_id
        )
        (folder / "begun").touch()
        future.result(60)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), hold=sys.argv[4:] == ["hold"])
