"""Has the rows of one partition ordered by a process, while others commit to its table.

delta-rs orders whole partitions and commits at once. So it is given a table of its own, in the
work folder, that has the same files by other links, and what it writes there is committed to the
real one if that still has all the files.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.transaction import AddAction, RemoveAction

from deltaq.worker.engines.native_bins import DataFile, Unlike, count_rows, removal
from deltaq.worker.engines.ordering_child import ANSWER, JOB, TABLE, Job, Made
from deltaq.worker.processes import Spawner


class Ordering:
    """A partition that is being ordered; nothing has changed in its table.

    Args:
        name: Tells it from others.
        job: What to order.
        folder: Where to work, on the disk of the table; it is not there yet.
    """

    #: The one that this process began last: one is at work at a time, for it takes memory.
    last: ClassVar[Ordering | None] = None

    def __init__(self, name: object, job: Job, folder: Path) -> None:
        self.name = name
        self._job = job
        self._folder = folder
        folder.mkdir(parents=True)
        (folder / JOB).write_bytes(msgspec.json.encode(job))
        module = "deltaq.worker.engines.ordering_child"
        self._process = _spawner().spawn([sys.executable, "-m", module, str(folder)])
        Ordering.last = self

    def is_done(self, seconds: float) -> bool:
        """Wait for the end, some seconds at most."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def abandon(self) -> None:
        """End it, and remove what there is of it."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        if Ordering.last is self:
            Ordering.last = None

    def commit(
        self, table: DeltaTable, schema: pa.Schema, present: Sequence[DataFile], **commit: Any
    ) -> bool:
        """Commit what came of it, once it is done, and bring the table to its version.

        Args:
            table: The table at its newest version.
            schema: Its columns.
            present: Files of the partition in that version.
            **commit: How delta-rs commits; without a second try.

        Returns:
            False if others have changed the rows meanwhile: nothing was committed.

        Raises:
            Unlike: The partition could not be ordered so.
            OSError: The storage refused.
        """
        job, path = self._job, Path(self._job.table)
        made = self._made()
        if not {f.path for f in job.files} <= {f.path for f in present}:
            return False
        for new in made:
            place = path / new.path
            place.parent.mkdir(parents=True, exist_ok=True)  # Spark names some folders otherwise
            (self._folder / TABLE / new.path).rename(place)
        now = time.time_ns() // 1_000_000
        actions: list[AddAction | RemoveAction] = [
            AddAction(n.path, n.size_bytes, job.values, now, data_change=False, stats=n.stats)
            for n in made
        ]
        actions += [removal(file, job.values, at_ms=now) for file in job.files]
        columns = Schema.from_arrow(schema)
        table.create_write_transaction(actions, "append", columns, list(job.values), **commit)
        table.update_incremental()
        return True

    def _made(self) -> list[Made]:
        if self._process.returncode:
            raise Unlike(f"the process that orders it ended with {self._process.returncode}")
        made = msgspec.json.decode((self._folder / ANSWER).read_bytes(), type=list[Made])
        count_rows([new.stats for new in made], self._job.files)
        return made


@cache
def _spawner() -> Spawner:
    return Spawner()
