"""Open tables of the native engine, kept between requests.

Opening a table reads its log again, which costs more than a commit. A kept ``DeltaTable``
grows slower with each commit it follows, so it is opened anew every :data:`REOPEN_AFTER`.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from deltaq.tasks.location import Location
from deltaq.tasks.policy import Policy, table_policy
from deltaq.tasks.s3_path import S3Path, S3Stat
from deltaq.worker.engines.native_errors import native_errors
from deltaq.worker.engines.urls import open_table
from deltaq.worker.lake import Lake
from deltaq.worker.ledger import NOTHING, log_entry

if TYPE_CHECKING:
    from deltaq.worker.engines.native_ordering import Ordering

#: Commits; with a checkpoint as often, a commit stays as fast as on a new table.
REOPEN_AFTER = 20
#: Seconds after a commit of ours for which the entry of its version counts as ours.
_OURS = 5.0
#: Tables held open: 50 kB each, and 20 kB for each commit since the checkpoint.
_MOST_OPEN = 1024
#: No vacuum is under way.
NOTHING_UNNEEDED: tuple[object, int, list[str]] = (None, -1, [])


class Handle:
    """One table at its newest version as last looked at. Used by one thread at a time."""

    def __init__(self, name: str, path: Location, policy: Policy) -> None:
        self._default = policy
        self._policy = policy
        self.name = name
        self.path = path
        self.lock = threading.RLock()
        self._table: DeltaTable | None = None
        self._opened_at = 0
        #: What tells the newest log entry from others of its name: another table may come under the same name.
        self._entry: object = None
        #: When the log was last looked at, or written to, ``time.monotonic()``.
        self._looked_at = 0.0
        #: Which vacuum in slices there is, at which version it was listed, and what is left of
        #: the files that it removes.
        self.unneeded = NOTHING_UNNEEDED
        #: A partition that is being ordered while others commit.
        self.ordering: Ordering | None = None
        self._ledgers: dict[str, int] = {}
        self._checkpoint: int | None = None

    @property
    def table(self) -> DeltaTable | None:
        """The open table; None when there is none of that name."""
        return self._table

    def existing(self) -> DeltaTable:
        """Return the open table.

        Raises:
            TableNotFound: There is none.
        """
        if self._table is None:
            raise Lake(self.path.parent).missing(self.name)
        return self._table

    @property
    def schema(self) -> pa.Schema:
        """The columns of the existing table."""
        return pa.schema(self.existing().schema().to_arrow())

    def refresh(self, *, trusted: float = 0.0, alone: bool = True) -> None:
        """Bring it to the newest version, opening it if need be.

        Args:
            trusted: In S3, where a look at the log is a request, one of less than so many
                seconds ago will do: a commit on what is not the newest version fails.
            alone: No other worker has had the table since this one committed to it. Else
                another table may have come under its name meanwhile.
        """
        if self._table is None or (self.is_unidentified and not alone):
            self._open()
            return
        silent = time.monotonic() - self._looked_at
        if isinstance(self.path, S3Path) and silent < trusted:
            return
        entry, has_next = self._look()
        if self._entry is None and silent < _OURS:
            self._entry = entry
        is_replaced = self._entry is None or entry != self._entry
        if is_replaced or has_next:
            self._ledgers.clear()
            if is_replaced or self._table.version() - self._opened_at >= REOPEN_AFTER:
                self._open()
            else:
                self._table.update_incremental()
                self.identify()

    def forget(self) -> None:
        """Open the table anew when it is next used."""
        self._table = None
        self._ledgers.clear()

    def ledger(self, app_id: str) -> int:
        """Return the last committed sequence of a ledger; -1 for none."""
        if self._table is None:
            return NOTHING
        if app_id not in self._ledgers:
            found = self._table.transaction_version(app_id)
            self._ledgers[app_id] = NOTHING if found is None else found
        return self._ledgers[app_id]

    def advanced(self, app_id: str, sequence: int) -> int:
        """Note that a commit of this process moved a ledger; return the commit's version."""
        if self._table is None:
            self._open()
        self._ledgers[app_id] = sequence
        return self._committed()

    def rearranged(self) -> None:
        """Note that commits of this process changed how the table is stored, and no ledger."""
        self._ledgers.clear()  # somebody else's commits may have come with them
        self._committed()

    def _committed(self) -> int:
        self._looked_at = time.monotonic()
        if isinstance(self.path, S3Path):
            self._entry = None  # asked for when nobody waits
        else:
            self.identify()
        version = self.existing().version()
        if version - self._opened_at >= REOPEN_AFTER:
            self._table = None
        return version

    def commits_since_checkpoint(self) -> int:
        """Count the log entries that a reader must read besides the newest checkpoint."""
        if self._checkpoint is None:
            self._checkpoint = self._last_checkpoint()
        return self.existing().version() - self._checkpoint

    def is_checkpoint_due(self) -> bool:
        """Tell whether the table's policy asks for a checkpoint."""
        return self.commits_since_checkpoint() >= self._policy.checkpoint_commits

    def checkpoint(self) -> None:
        """Write a checkpoint of the newest version, from which the table is then opened."""
        table = self.existing()
        table.create_checkpoint()
        self._checkpoint = table.version()
        self.forget()

    def _open(self) -> None:
        self._ledgers.clear()
        self._checkpoint = None
        try:
            self._table = open_table(self.path)
        except TableNotFoundError:
            self._table = None
            return
        self._policy = table_policy(self._table.metadata().configuration, self._default)
        self._opened_at = self._table.version()
        self._looked_at = time.monotonic()
        self.identify()

    @property
    def is_unidentified(self) -> bool:
        """Tell whether it is not known which entry of the log is the newest."""
        return self._table is not None and self._entry is None

    def identify(self) -> None:
        """Note which entry of the log is the newest."""
        if self._table is not None:
            self._entry = _identify(self._log_entry(0))

    def _look(self) -> tuple[object, bool]:
        """Tell what the log has as the newest entry that is known, and whether it has a later one.

        Two looks at the file system, or one listing of S3, instead of delta-rs's; a commit that is
        missed in between makes ours fail, for the log entry's name is then taken.
        """
        self._looked_at = time.monotonic()
        before, known, later = map(self._log_entry, (-1, 0, 1))
        if not isinstance(before, S3Path):
            return _identify(known), later.is_file()
        found = {path.name: path.stat().etag for path in before.followers()}
        return found.get(known.name), later.name in found

    def _log_entry(self, ahead: int) -> Location:
        return log_entry(self.path, self.existing().version() + ahead)

    def _last_checkpoint(self) -> int:
        try:
            text = (self.path / "_delta_log" / "_last_checkpoint").read_text()
            return int(json.loads(text)["version"])
        except (FileNotFoundError, ValueError, KeyError):
            return -1


class Handles:
    """The handles of a lake's tables, the most recently used ones kept.

    Args:
        lake: Where the tables are.
        policy: That of tables that have none of their own.
    """

    def __init__(self, lake: Lake, policy: Policy) -> None:
        self._lake = lake
        self._policy = policy
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Handle] = OrderedDict()

    @contextmanager
    def use(self, table: str, *, trusted: float = 0.0, alone: bool = True) -> Iterator[Handle]:
        """Lend a table's handle, at the newest version, to one thread.

        Args:
            table: Its name.
            trusted: As for :meth:`Handle.refresh`.
            alone: As there.

        Raises:
            NotNative: delta-rs cannot read the table.
            StorageUnavailable: The lake cannot be read now.
        """
        handle = self._handle(table)
        with handle.lock:
            try:
                with native_errors(table):
                    handle.refresh(trusted=trusted, alone=alone)
                    yield handle
            except Exception:
                # Whatever failed, the next one starts from what is in the log.
                handle.forget()
                raise

    def _handle(self, table: str) -> Handle:
        path = self._lake.path(table)
        with self._lock:
            handle = self._known.setdefault(table, Handle(table, path, self._policy))
            self._known.move_to_end(table)
            if len(self._known) > _MOST_OPEN:
                self._known.popitem(last=False)
            return handle


def _identify(entry: Location) -> object:
    try:
        found = entry.stat()
    except FileNotFoundError:
        return None
    return found.etag if isinstance(found, S3Stat) else (found.st_ino, found.st_mtime_ns)
