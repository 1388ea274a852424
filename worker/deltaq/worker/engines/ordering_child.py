"""The process that orders a partition: ``python -m deltaq.worker.engines.ordering_child FOLDER``.

Of its own, because delta-rs has one pool of threads in a process: while they sort, no other table
of the worker is committed to. It is nice, and ends with its worker.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import msgspec
from deltalake import DeltaTable
from deltalake.transaction import AddAction, create_table_with_add_actions

from deltaq.tasks.location import sync_file
from deltaq.worker.durable import read_commit
from deltaq.worker.engines.native_bins import DataFile
from deltaq.worker.engines.native_commit import DENSE

#: Added to the process's niceness.
_NICE = 10
#: In the folder: what to do, the table in which it is done, and what came of it.
JOB, TABLE, ANSWER = "job.json", "table", "answer.json"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be ordered.

    Attributes:
        table: Folder of the table.
        version: Of the table; its columns are those of the files.
        files: All files of a partition, none with a deletion vector.
        values: Of the partition, as the log has them.
        zorder: Columns along which.
        target_bytes: Of a file; None for what delta-rs makes.
    """

    table: str
    version: int
    files: tuple[DataFile, ...]
    values: dict[str, str | None]
    zorder: tuple[str, ...]
    target_bytes: int | None


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was made, in the folder of the job's table."""

    path: str
    size_bytes: int
    stats: str


def _order(job: Job, place: Path) -> list[Made]:
    """Order the files of a job in a table that has them by other links."""
    for file in job.files:
        link = place / file.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(Path(job.table) / file.path)
    now = time.time_ns() // 1_000_000
    added = [AddAction(f.path, f.size_bytes, job.values, now, True, "{}") for f in job.files]
    columns = DeltaTable(job.table, version=job.version).schema()
    create_table_with_add_actions(str(place), columns, added, partition_by=list(job.values))
    DeltaTable(str(place)).optimize.z_order(
        list(job.zorder), target_size=job.target_bytes, writer_properties=DENSE
    )
    adds = [action["add"] for action in read_commit(place, 1) if "add" in action]
    made = [Made(path=unquote(a["path"]), size_bytes=a["size"], stats=a["stats"]) for a in adds]
    for new in made:
        sync_file(place / new.path)  # here, for it may take long
    return made


def _main(folder: Path) -> None:
    os.nice(_NICE)
    job = msgspec.json.decode((folder / JOB).read_bytes(), type=Job)
    answer = msgspec.json.encode(_order(job, folder / TABLE))
    (folder / ANSWER).write_bytes(answer)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
