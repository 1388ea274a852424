"""Orders the rows of one partition in a thread of its own, while others commit to its table.

delta-rs orders whole partitions and commits at once. So it is given a table of its own, in the
work folder, that has the same files by other links, and what it writes there is committed to the
real one if that still has all the files.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from deltaq.worker.durable import read_commit
from deltaq.worker.engines.native_bins import DataFile, count_rows, removal

#: Of all tables of a process one is being ordered: it takes memory.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Partition:
    """What is to be ordered.

    Attributes:
        table: Folder of the table.
        files: All files of the partition, none with a deletion vector.
        values: Of the partition, as the log has them.
        schema: Columns of the table.
        zorder: Those along which.
        target_bytes: Of a file; None for what delta-rs makes.
    """

    table: Path
    files: Sequence[DataFile]
    values: dict[str, str | None]
    schema: pa.Schema
    zorder: Sequence[str]
    target_bytes: int | None


class Ordering:
    """A partition that is being ordered; nothing has changed in its table.

    Args:
        name: Tells it from others.
        partition: The partition.
        folder: Where to work, on the disk of the table; it is not there yet.
    """

    def __init__(self, name: object, partition: Partition, folder: Path) -> None:
        self.name = name
        self._partition = partition
        self._folder = folder
        self._made: list[AddAction] = []
        self._error: Exception | None = None
        self._abandoned = False
        # A daemon: a worker that stops does not wait for it.
        self._thread = threading.Thread(target=self._run, name="deltaq-order", daemon=True)
        self._thread.start()

    def is_done(self, seconds: float) -> bool:
        """Wait for the end, some seconds at most."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Remove what there is of it, now or when it ends."""
        self._abandoned = True
        if not self._thread.is_alive():
            shutil.rmtree(self._folder, ignore_errors=True)

    def commit(self, table: DeltaTable, present: Sequence[DataFile], **commit: Any) -> bool:
        """Commit what came of it, once it is done, and bring the table to its version.

        Args:
            table: The table at its newest version.
            present: Files of the partition in that version.
            **commit: How delta-rs commits; without a second try.

        Returns:
            False if others have changed the rows meanwhile: nothing was committed.

        Raises:
            Exception: Whatever kept it from being ordered.
        """
        if self._error is not None:
            raise self._error
        before = self._partition
        if not {f.path for f in before.files} <= {f.path for f in present}:
            return False
        for added in self._made:
            place = before.table / added.path
            place.parent.mkdir(parents=True, exist_ok=True)  # Spark names some folders otherwise
            (self._folder / added.path).rename(place)
        now = time.time_ns() // 1_000_000
        removed: list[AddAction | RemoveAction] = [
            removal(file, before.values, at_ms=now) for file in before.files
        ]
        table.create_write_transaction(
            [*self._made, *removed],
            "append",
            Schema.from_arrow(before.schema),
            list(before.values),
            **commit,
        )
        table.update_incremental()
        return True

    def _run(self) -> None:
        with _ONE_AT_A_TIME:
            try:
                if not self._abandoned:
                    self._made = self._order()
            except Exception as exc:
                self._error = exc
        if self._abandoned:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _order(self) -> list[AddAction]:
        partition = self._partition
        for file in partition.files:
            link = self._folder / file.path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(partition.table / file.path)
        found = [self._added(file.path, file.size_bytes, "{}") for file in partition.files]
        columns = Schema.from_arrow(partition.schema)
        create_table_with_add_actions(
            str(self._folder), columns, found, partition_by=list(partition.values)
        )
        DeltaTable(str(self._folder)).optimize.z_order(
            list(partition.zorder), target_size=partition.target_bytes
        )
        adds = [action["add"] for action in read_commit(self._folder, 1) if "add" in action]
        made = [self._added(unquote(a["path"]), a["size"], a["stats"]) for a in adds]
        for added in made:
            _sync(self._folder / added.path)  # here, for it may take long
        count_rows([a.stats for a in made], partition.files)
        return made

    def _added(self, path: str, size_bytes: int, stats: str) -> AddAction:
        return AddAction(
            path=path,
            size=size_bytes,
            partition_values=self._partition.values,
            modification_time=time.time_ns() // 1_000_000,
            data_change=False,
            stats=stats,
        )


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
