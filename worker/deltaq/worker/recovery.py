"""Finds, in the staging area and the tables' logs, what Redis has forgotten.

Redis may come back without its last writes, or without any. Before the next commit to a table,
whoever holds its lease tells Redis again which requests the table's log names, so that none of
them is applied twice, and puts those that neither knows back into their inbox, in order of age.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile
from typing import TypeVar

from deltaq.tasks.errors import InvalidTableName, LeaseLost, StorageUnavailable
from deltaq.tasks.inbox import LANES, Inbox
from deltaq.tasks.location import Location
from deltaq.tasks.memory import Memory
from deltaq.tasks.names import check_table_name
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker import ledger
from deltaq.worker.durable import sync_commit
from deltaq.worker.found import Action, Found, modified, of_committed, of_known, of_unknown
from deltaq.worker.inserter import Inserter, age_of_file
from deltaq.worker.lake import Lake
from deltaq.worker.lease import Lease

logger = logging.getLogger(__name__)

#: Requests in one call to Redis.
_BATCH = 500
#: Commits of a log that are compared with Redis at a time.
_COMMITS = 20
#: Seconds by which the clocks of those who stage and those who commit may differ.
_CLOCKS_APART = 3600.0
#: Seconds between two looks at what may become known.
_PAUSE = 0.02

_T = TypeVar("_T")


class Recovery:
    """Compares Redis with tables and staged files. Every method may run in many threads.

    Args:
        memory: What Redis remembers.
        inbox: Where outcomes are looked up.
        staging: Where the staged files are.
        lake: Where the tables are.
        settings: How long outcomes are kept, and leases last.
    """

    def __init__(
        self, memory: Memory, inbox: Inbox, staging: StagingArea, lake: Lake, settings: Settings
    ) -> None:
        self._memory = memory
        self._inbox = inbox
        self._staging = staging
        self._lake = lake
        self._keep = settings.outcome_ttl
        self._lease_ttl = settings.lease_ttl

    def tables(self) -> list[str]:
        """List the tables that have staged files, sorted.

        Raises:
            StorageUnavailable: The staging area cannot be read.
        """
        root = self._staging.root / "requests"
        try:
            folders = [f for f in root.iterdir() if any(f.glob("*.parquet"))]
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise StorageUnavailable(f"{root}: cannot be read: {exc.strerror}") from exc
        return sorted(f.name for f in folders if _is_table(f.name))

    def doubtful(self) -> list[str]:
        """List the tables with staged files of which Redis may have forgotten something.

        Costs one call to Redis unless the server was restarted or emptied since the last one.
        Tables at which a worker is are left out; it looks by itself.
        """
        if self._memory.is_complete():
            return []
        run_id = self._memory.run_id()
        found = self._memory.doubtful(self.tables(), run_id)
        if not found:
            self._memory.set_complete(run_id)
        return [table for table, held in found if not held]

    def look(self, table: str) -> Iterator[Found]:
        """Say of each staged file of a table what is to be done about it; changes nothing.

        Returns:
            One for each, the oldest request first.

        Raises:
            QueueUnavailable: Redis did not answer.
            StorageUnavailable: Staging area or lake cannot be read.
        """
        return self._look_at(table, self._by_age(table))

    def _look_at(self, table: str, files: list[Location]) -> Iterator[Found]:
        known: dict[Location, Outcome | State] = {}
        for batch in _batched(files, _BATCH):
            states = self._inbox.outcomes([(table, file.stem) for file in batch])
            known.update((f, s) for f, s in zip(batch, states, strict=True) if s is not None)
        unknown = [file for file in files if file not in known]
        committed = ledger.find_committed(
            self._lake.path(table),
            None,
            [file.stem for file in unknown],
            since=min(map(modified, unknown), default=0.0) - _CLOCKS_APART,
        )
        for file in files:
            if file in known:
                yield of_known(file, known[file])
            elif file.stem in committed:
                yield of_committed(file, committed[file.stem])
            elif found := of_unknown(file):
                yield found

    def restore(self, lease: Lease) -> int:
        """Make Redis' memory of a table complete again, and return how many requests went in.

        Does nothing a second time. When this returns, the lease has the table's epoch.

        Raises:
            LeaseLost: Another worker has the table, or Redis forgot again.
            QueueUnavailable: Redis did not answer.
            StorageUnavailable: Staging area or lake cannot be read.
        """
        table, run_id = lease.table, self._memory.run_id()
        # Not those that are staged from now on: their clients submit them to this server.
        files = self._by_age(table)
        self._let_others_end(lease, files)
        remembered, reached = self._remember_log(lease)
        waiting = {
            lane: Inserter(self._memory, lease, lane, above=reached.get(lane, 0)) for lane in LANES
        }
        synced: set[int] = set()
        for found in self._look_at(table, files):
            if found.action is Action.ACKNOWLEDGE:
                self._acknowledge(lease, found, synced)
            elif found.request is not None:
                waiting[found.request.lane].add(found.request)
            elif found.action is Action.KEEP:
                logger.warning("table %s: left alone: %s", table, found.reason)
        inserted = sum(inserter.close() for inserter in waiting.values())
        # The epoch of before, if the table tells it: a holder that Redis forgot has the same
        # ledger then, and loses at it.
        epoch = ledger.last_epoch(self._lake.path(table))
        lease.epoch = self._memory.vouch(table, run_id, epoch=epoch, token=lease.token)
        if remembered or inserted:
            logger.warning(
                "table %s: Redis had forgotten %d commits, read back from the table's log, and "
                "%d staged requests, which wait again",
                table,
                remembered,
                inserted,
            )
        return inserted

    def _let_others_end(self, lease: Lease, files: list[Location]) -> None:
        """If something is unknown to Redis, wait for as long as a lease lasts, or until it is known.

        A holder whose lease Redis forgot may be committing; by then it has noticed. And a client
        may have staged a file that it is about to submit, or, when the queue is full, to remove.
        """
        table = lease.table
        newest = islice(self._recent_commits(table), _COMMITS)
        ids = [c.request_id for entry in newest for c in ledger.committed_in(entry)]
        ids += [file.stem for file in files]
        deadline = time.monotonic() + self._lease_ttl
        while (ids := self._unknown(table, ids)) and time.monotonic() < deadline:
            if lease.lost.wait(_PAUSE):
                raise LeaseLost(f"the lease of table {table} ended", table=table)

    def _unknown(self, table: str, request_ids: Iterable[str]) -> list[str]:
        """Return those that Redis does not know, or the first of them."""
        unknown: list[str] = []
        for batch in _batched(request_ids, _BATCH):
            states = self._inbox.outcomes([(table, request_id) for request_id in batch])
            unknown += [i for i, state in zip(batch, states, strict=True) if state is None]
            if len(unknown) >= _BATCH:
                break
        return unknown

    def _by_age(self, table: str) -> list[Location]:
        folder = self._staging.root / "requests" / table
        try:
            aged = sorted((age_of_file(file), file) for file in folder.glob("*.parquet"))
        except OSError as exc:
            raise StorageUnavailable(f"{folder}: cannot be read: {exc.strerror}") from exc
        return [file for _, file in aged]

    def _recent_commits(self, table: str) -> Iterator[Location]:
        """Name the entries of the log whose outcomes Redis should have, newest first."""
        since = time.time() - self._keep
        entries = ledger.log_entries(self._lake.path(table))
        return takewhile(lambda entry: not ledger.is_older(entry, since), entries)

    def _remember_log(self, lease: Lease) -> tuple[int, dict[Lane, int]]:
        """Write the outcomes of the log's commits to Redis, the oldest first.

        What Redis loses are its last writes or all. So if it knows the outcomes of some
        commits, it knows those of all older ones; also when this was cut short.

        Returns:
            How many were written, and the highest sequences among them.
        """
        forgotten: list[Location] = []
        for entries in _batched(self._recent_commits(lease.table), _COMMITS):
            ids = [c.request_id for entry in entries for c in ledger.committed_in(entry)]
            if ids and self._are_settled(lease.table, ids):
                break
            forgotten += entries
        remembered, reached = 0, dict[Lane, int]()
        for entries in _batched(reversed(forgotten), _COMMITS):
            committed = [c for entry in entries for c in ledger.committed_in(entry)]
            reached.update((ledger.lane_of(c.ledger), c.sequence) for c in committed)
            for batch in _batched(committed, _BATCH):
                remembered += self._remember(lease, batch)
        return remembered, reached

    def _remember(self, lease: Lease, committed: Sequence[ledger.Committed]) -> int:
        outcomes = [_outcome(lease.table, c) for c in committed]
        return self._memory.remember(lease.table, outcomes, token=lease.token)

    def _are_settled(self, table: str, request_ids: list[str]) -> bool:
        return all(
            isinstance(outcome, Outcome)
            for batch in _batched(request_ids, _BATCH)
            for outcome in self._inbox.outcomes([(table, request_id) for request_id in batch])
        )

    def _acknowledge(self, lease: Lease, found: Found, synced: set[int]) -> None:
        """Remove the file of a committed request; Redis is told if only the old log knows it."""
        path, version = self._lake.path(lease.table), found.version
        if version is not None and version not in synced:
            # Whoever committed it may have died, machine and all, before the commit was synced.
            if ledger.log_entry(path, version).is_file():
                sync_commit(path, version)
            synced.add(version)
        if found.committed is not None:
            self._remember(lease, [found.committed])
        self._staging.remove(found.path)


def _outcome(table: str, committed: ledger.Committed) -> Outcome:
    return Outcome(
        request_id=committed.request_id,
        table=table,
        operation=committed.operation,
        state=State.COMMITTED,
        version=committed.version,
        sequence=committed.sequence,
    )


def _is_table(name: str) -> bool:
    try:
        check_table_name(name)
    except InvalidTableName:
        logger.warning("staging area: folder %s is no table's", name)
        return False
    return True


def _batched(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
