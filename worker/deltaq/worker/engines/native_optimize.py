"""Compacts and orders a table with delta-rs, a slice at a time.

delta-rs takes partitions as a whole: small ones are given to it several at once. The files of a
large one are put together by :mod:`native_bins`, some in each commit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from deltalake import CommitProperties

from deltaq.tasks.request import Optimize, operation_of
from deltaq.tasks.slices import Slices
from deltaq.worker.engines import NotNative
from deltaq.worker.engines.handles import Handle
from deltaq.worker.engines.native_bins import DataFile, Unlike, put_together
from deltaq.worker.engines.native_commit import DENSE, NO_HOOKS
from deltaq.worker.engines.native_ordering import Ordering
from deltaq.worker.engines.native_partitions import (
    can_be_named,
    files_in,
    filters,
    has_vectors,
    log_values,
    partitions,
)
from deltaq.worker.engines.ordering_child import Job
from deltaq.worker.maintenance.slicing import (
    TARGET_BYTES,
    Partition,
    bins,
    count_bins,
    is_large,
    packs,
    to_rewrite,
)

logger = logging.getLogger(__name__)

#: Seconds after which a slice ends with the commit that it is at.
SLICE_SECONDS = 0.5
#: Seconds after which a bin takes no further file: of many columns, or on a slow disk, it is less.
_BIN_SECONDS = 1.0
#: Bytes of a partition above which it is ordered while others commit, and seconds of a slice that
#: waits for that.
_ASIDE_BYTES, _LOOK_SECONDS = 64 * 1024 * 1024, 0.2
#: Chooses those of a table's partitions for which a condition holds.
Matching = Callable[[pa.Table], pa.Table]


class _Place(msgspec.Struct, frozen=True):
    """Where a request is.

    Attributes:
        key: The partition that was last at hand; those before it are done.
        bins: How many of its bins are left.
    """

    key: str = ""
    bins: int = 0


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """Partitions that are rewritten in one commit, or a large one in as many as it has bins."""

    partitions: tuple[Partition, ...]
    bins: int = 0

    @property
    def size(self) -> int:
        return self.bins or len(self.partitions)

    @property
    def key(self) -> str:
        return self.partitions[-1].key


def optimize(
    handle: Handle,
    request: Optimize,
    *,
    begun: Slices | None,
    matching: Matching,
    told: str,
    new_folder: Callable[[], Path],
) -> Slices | None:
    """Do a slice of compacting or ordering a table.

    Args:
        handle: The table.
        request: The request.
        begun: How far earlier slices came.
        matching: Chooses the partitions that the request's condition is about.
        told: What each commit says of why it is made.
        new_folder: Names a folder to work in.

    Returns:
        How far it came; None if it is done.

    Raises:
        CommitConflict: Somebody else committed meanwhile.
        NotNative: delta-rs does not compact such a table.
    """
    work = _Optimizing(handle, request, told, new_folder)
    place = _read_place(begun)
    units = work.units(place, matching)
    done, until = begun.done if begun else 0, time.monotonic() + SLICE_SECONDS
    total = done + sum(unit.size for unit in units)
    for unit in units:
        for reached, size in work.perform(unit):
            place, done = reached or place, done + size
            if done < total and time.monotonic() > until:
                return Slices(
                    request_id=request.request_id,
                    operation=operation_of(request),
                    done=done,
                    total=total,
                    at=msgspec.json.encode(place).decode(),
                )
    return None


class _Optimizing:
    def __init__(
        self, handle: Handle, request: Optimize, told: str, new_folder: Callable[[], Path]
    ) -> None:
        self._handle = handle
        self._table = handle.existing()
        self._request = request
        self._told = told
        self._new_folder = new_folder
        self._columns = self._table.metadata().partition_columns
        self._target = request.target_bytes or TARGET_BYTES

    def units(self, place: _Place, matching: Matching) -> list[_Unit]:
        """Plan what is left to do, in order."""
        found = partitions(self._table, self._target)
        if self._request.where is not None:
            wanted = _rows_of(matching(self._as_table(found)))
            found = [p for p in found if p.values in wanted]
        ordered = bool(self._request.zorder)
        todo = to_rewrite(found, ordered=ordered, min_files=self._request.min_files)
        left = [p for p in todo if p.key > place.key or (p.key == place.key and place.bins)]
        large = self._aside(left) if ordered else self._bins(left)
        if any(not can_be_named(p) and p.key not in large for p in left):
            # All partitions at once, those with little to do as well.
            return [_Unit(partitions=tuple(todo))]
        if place.key in large and place.bins:
            large[place.key] = min(large[place.key], place.bins)
        units: list[_Unit] = []
        # In one order, so that a place tells what is done.
        for key, some in groupby(left, key=lambda p: p.key if p.key in large else ""):
            if key:
                units.append(_Unit(partitions=tuple(some), bins=large[key]))
            else:
                units += (_Unit(partitions=tuple(pack)) for pack in self._packs(list(some)))
        return [unit for unit in units if unit.bins or unit.key not in large]

    def perform(self, unit: _Unit) -> Iterator[tuple[_Place | None, int]]:
        """Do a unit; after each commit tell where it is, if that is elsewhere, and how much was done."""
        if unit.bins and self._request.zorder:
            while not self._order(unit.partitions[0]):
                yield None, 0
            yield _Place(unit.key), unit.size
            return
        if not unit.bins:
            self._rewrite(unit.partitions)
            yield _Place(unit.key), unit.size
            return
        (partition,), left = unit.partitions, unit.bins
        while left:
            made = self._put_together(partition)
            if made is None:
                yield _Place(unit.key), left
                return
            left -= made
            yield _Place(unit.key, left), made

    def _packs(self, partitions: Sequence[Partition]) -> Iterator[Sequence[Partition]]:
        """Gather what delta-rs rewrites at once."""
        # Only a condition on a single column can name several of its values.
        if len(self._columns) == 1:
            return packs(partitions, ordered=bool(self._request.zorder))
        return ([p] for p in partitions)

    def _bins(self, partitions: Sequence[Partition]) -> dict[str, int]:
        """Count the bins of those partitions that delta-rs is not to rewrite as a whole."""
        chosen = [p for p in partitions if is_large(p) or not can_be_named(p)]
        if not chosen or has_vectors(self._table):
            return {}
        sizes = {p.key: [f.size_bytes for f in self._small_files(p)] for p in chosen}
        return {key: count_bins(found, self._target) for key, found in sizes.items()}

    def _aside(self, partitions: Sequence[Partition]) -> dict[str, int]:
        """Choose those partitions that are ordered while others commit; one commit each."""
        chosen = [p for p in partitions if p.size_bytes > _ASIDE_BYTES or not can_be_named(p)]
        on_disk = isinstance(self._handle.path, Path)
        return (
            {p.key: 1 for p in chosen}
            if chosen and on_disk and not has_vectors(self._table)
            else {}
        )

    def _order(self, partition: Partition) -> bool:
        """Order a large partition; False if it is still being ordered, and others go first."""
        files = files_in(self._table, partition)
        name = (self._request.request_id, partition.key)
        if (begun := self._handle.ordering) is None or begun.name != name:
            self._begin_ordering(name, partition, files)
            return False
        if not begun.is_done(_LOOK_SECONDS):
            return False
        self._handle.ordering = None
        try:
            if not begun.commit(self._table, self._handle.schema, files, **self._commit()):
                logger.info("table %s: changed while it was being ordered", self._handle.name)
                self._rewrite([partition])
        except (OSError, Unlike) as exc:
            # Another disk, perhaps, which can have no link: as the small ones are then.
            logger.info("table %s: ordered as a whole: %s", self._handle.name, exc)
            self._rewrite([partition])
        finally:
            begun.abandon()
        return True

    def _begin_ordering(
        self, name: object, partition: Partition, files: Sequence[DataFile]
    ) -> None:
        if self._handle.ordering is not None:
            self._handle.ordering.abandon()
            self._handle.ordering = None
        if Ordering.last is not None and not Ordering.last.is_done(_LOOK_SECONDS):
            return
        job = Job(
            table=str(self._handle.path),
            version=self._table.version(),
            files=tuple(files),
            values=log_values(self._handle.schema, self._columns, partition),
            zorder=self._request.zorder,
            target_bytes=self._request.target_bytes,
        )
        self._handle.ordering = Ordering(name, job, self._new_folder())

    def _small_files(self, partition: Partition) -> list[DataFile]:
        return [f for f in files_in(self._table, partition) if f.size_bytes < self._target]

    def _put_together(self, partition: Partition) -> int | None:
        """Put the files of the next bin together.

        Returns:
            1, or 0 if time was over before all were taken; None if there is no further bin.
        """
        # Read anew: somebody else may have committed since the last one.
        files = self._small_files(partition)
        bin_ = next(bins([f.size_bytes for f in files], self._target), None)
        if bin_ is None:
            return None
        try:
            taken = put_together(
                self._table,
                self._handle.path,
                files[bin_.start : bin_.stop],
                log_values(self._handle.schema, self._columns, partition),
                seconds=_BIN_SECONDS,
                **self._commit(),
            )
        except Unlike as exc:
            if not can_be_named(partition):
                raise NotNative(f"compacting files that differ: {exc}") from exc
            self._rewrite([partition])
            return None
        return int(taken == len(bin_))

    def _rewrite(self, partitions: Sequence[Partition]) -> None:
        options: dict[str, Any] = {
            "partition_filters": filters(self._columns, partitions),
            "target_size": self._request.target_bytes,
            "writer_properties": DENSE,
            **self._commit(),
        }
        if self._request.zorder:
            self._table.optimize.z_order(list(self._request.zorder), **options)
        else:
            self._table.optimize.compact(**options)

    def _commit(self) -> dict[str, Any]:
        told = {"userMetadata": self._told}
        if self._request.zorder:
            # Unlike Spark, delta-rs does not tell in the log along which columns.
            told["zOrderBy"] = msgspec.json.encode(self._request.zorder).decode()
        return {
            "commit_properties": CommitProperties(max_commit_retries=0, custom_metadata=told),
            "post_commithook_properties": NO_HOOKS,
        }

    def _as_table(self, found: Sequence[Partition]) -> pa.Table:
        schema = self._handle.schema
        fields = pa.schema([schema.field(column) for column in self._columns])
        rows = [dict(zip(self._columns, p.values, strict=True)) for p in found]
        return pa.Table.from_pylist(rows, schema=fields)


def _read_place(begun: Slices | None) -> _Place:
    if begun is None:
        return _Place()
    try:
        return msgspec.json.decode(begun.at, type=_Place)
    except msgspec.MsgspecError:
        return _Place()  # of another release: what is compact already is left alone


def _rows_of(table: pa.Table) -> set[tuple[Any, ...]]:
    return set(zip(*(column.to_pylist() for column in table.columns), strict=True))
