"""Backfills that a fault hits, with what their tables must hold before and after."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from deltaq.tasks.backfill import Backfill, Ending
from deltaq.tasks.broker import hint, make_celery
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.location import Location
from deltaq.tasks.staging import StagingArea
from deltaq.worker import System
from deltaq.worker.backfill.names import left_behind
from deltaq.worker.backfill.service import Backfills
from deltaq.worker.engines.urls import open_table
from tests.support.backfill_worker import COMMITTING, Place
from tests.support.backfills import begin, manifest_of, parquet_parts, prepare_here
from tests.support.faulty import Deed, missing, table_name
from tests.support.log import committed_versions
from tests.support.waiting import wait_until

#: Seconds to wait for anything; workers start slowly on a busy machine.
PATIENCE = 120.0
#: What is loaded, a part of each, and what is in a table before: each id with its partition.
FRAMES = [pa.table({"id": range(at, at + 100), "g": [at // 100] * 100}) for at in (0, 100, 200)]
_NEW = list(range(300))
_OLD = {-1: 0, -2: 0, -3: 1, -4: 7, -5: 7}
#: The column that a table lacks.
_EXTRA = "extra"


class Kind(StrEnum):
    """What a backfill does to its table."""

    NEW = "new"  # creates it; each of the others finds one
    APPEND = "append"
    OVERWRITE = "overwrite"
    REPLACE = "replace_partitions"
    WIDEN = "widen"  # append rows with a column that it lacks


@dataclass(frozen=True, kw_only=True)
class Load:
    """A backfill whose worker is stopped at a place."""

    place: Place
    kind: Kind
    backfill: Backfill
    lake: Location

    @property
    def table(self) -> str:
        return table_name(self.place, self.kind)

    @property
    def path(self) -> Location:
        return self.lake / self.table

    @property
    def before(self) -> list[int]:
        return [] if self.kind is Kind.NEW else sorted(_OLD)

    @property
    def after(self) -> list[int]:
        match self.kind:
            case Kind.NEW | Kind.OVERWRITE:
                kept = []
            case Kind.REPLACE:
                kept = [i for i, g in _OLD.items() if g >= len(FRAMES)]
            case _:
                kept = list(_OLD)
        return sorted(kept + _NEW)

    def ids(self) -> list[int]:
        """Read what is in the table; nothing is in none."""
        if not (self.path / "_delta_log").exists():
            return []
        found = open_table(self.path).to_pyarrow_table(columns=["id"])
        return sorted(found.column("id").to_pylist())

    def ended(self) -> bool:
        verdict = self.backfill.verdict()
        return verdict is not None and verdict.cleaned

    def check_stopped(self) -> None:
        """Check that the table is as it was, or as it is to be, after a worker was killed."""
        done = self.place in (Place.LOGGED, Place.COMMITTED, Place.TOLD)
        assert self.ids() == (self.after if done else self.before), self.table
        if self.kind is Kind.WIDEN:
            assert (_EXTRA in open_table(self.path).schema().to_arrow().names) == done

    def check_whole(self) -> None:
        """Check that all is in the table, once and in one commit, and nothing is left behind."""
        verdict = self.backfill.verdict()
        assert verdict is not None
        assert verdict.ending is Ending.ADOPTED, verdict
        assert self.ids() == self.after, self.table
        name = self.backfill.backfill_id
        assert committed_versions(self.path) == [(name, verdict.version)]
        its = {file for file in open_table(self.path).file_uris() if name in file}
        assert {str(file) for file in left_behind(self.path, name)} == its
        assert not self.backfill.uploads.exists()
        # The verdict is there a moment before the notes of the parts are not.
        wait_until(lambda: not self.backfill.prepared(), within=PATIENCE)


class Loads:
    """A system, backfills in its lake, and a folder for what they load and for meetings."""

    def __init__(self, system: System, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.system = system
        self.folder = folder
        self.lake = system.settings.lake
        self._monkeypatch = monkeypatch
        self._staging = StagingArea(system.settings.staging_root)

    def begin(self, place: Place, kind: Kind, *, frames: Sequence[pa.Table] = FRAMES) -> Load:
        """Begin a backfill; one that is to be stopped later than in its parts has them prepared."""
        table = table_name(place, kind)
        if kind is not Kind.NEW:
            old = pa.table({"id": list(_OLD), "g": list(_OLD.values())})
            write_deltalake(str(self.lake / table), old, partition_by=["g"])
        if kind is Kind.WIDEN:
            frames = [frame.append_column(_EXTRA, frame.column("id")) for frame in frames]
        manifest = manifest_of(
            frames[0].schema,
            parquet_parts(self.folder / "sources" / table, frames),
            # A sweep goes by the ids: what a sweeping thread stops at comes after the others.
            backfill_id=f"{1 if place in COMMITTING else 2}-{table}",
            table=table,
            partition_by=("g",),
            mode=kind if kind in (Kind.OVERWRITE, Kind.REPLACE) else "append",
            widen=kind is Kind.WIDEN,
        )
        backfill = begin(self._staging, manifest)
        if place in (Place.PREPARING, Place.PREPARED):
            with closing(make_celery(self.system.settings)) as app:
                hint(app, manifest.backfill_id, 0)  # as a client does
        else:
            for part in prepare_here(manifest, self.lake, self.folder):
                backfill.add_part(part)
        return Load(place=place, kind=kind, backfill=backfill, lake=self.lake)

    def only_named(self, place: Place, kind: Kind) -> Load:
        """Name a backfill that is yet to be begun, by a client."""
        table = table_name(place, kind)
        backfill = Backfill(self._staging, f"of-{table}")
        return Load(place=place, kind=kind, backfill=backfill, lake=self.lake)

    @contextmanager
    def backfills(self) -> Iterator[Backfills]:
        """Make what a worker has for backfills, without a worker."""
        settings = self.system.settings
        with self.system.redis.connect() as client:
            inbox = Inbox(client, settings)
            made = Backfills(client, inbox, settings, worker="test", ring=lambda *_: None)
            with closing(made):
                yield made

    def start_faulty(self, deed: Deed, *loads: Load) -> Meeting:
        """Start a worker that stops when it has come to the places of all of them."""
        folder = self.folder / f"meeting-{len(self.system.workers)}"
        folder.mkdir()
        tables = ",".join(load.table for load in loads)
        with self._monkeypatch.context() as patch:
            for name, value in {"": deed, "_FOLDER": folder, "_TABLES": tables}.items():
                patch.setenv(f"FAULT{name}", str(value))
            pid = self.system.start_worker(module="tests.support.backfill_worker")
        return Meeting(self, psutil.Process(pid), folder)

    def restart_redis(self, *, emptied: bool = False) -> None:
        """Kill Redis and start it again, with what it has written or without."""
        server = self.system.redis._process
        assert server is not None
        server.kill()
        server.wait()
        for file in self.system.redis._data.rglob("*") if emptied else ():
            if file.is_file():
                file.unlink()
        self.system.redis.start()

    def wait_for_end(self, *loads: Load) -> None:
        """Wait until backfills have ended, and check that all is there."""
        self.wait(lambda: all(load.ended() for load in loads))
        for load in loads:
            load.check_whole()

    def wait(self, condition: Callable[[], object], saying: Callable[[], object] = str) -> None:
        wait_until(condition, within=PATIENCE, saying=lambda: (saying(), self._last_words()))

    def _last_words(self) -> str:
        log = self.system.log
        return log.read_text()[-3000:] if log.exists() else "no log"


class Meeting:
    """A worker that stops, and the folder in which the test and it see each other."""

    def __init__(self, loads: Loads, process: psutil.Process, folder: Path) -> None:
        self._loads = loads
        self.process = process
        self._folder = folder

    def wait_until_it_waits(self) -> None:
        self._loads.wait((self._folder / "here").exists, self._missing)

    def wait_until_it_is_killed(self) -> None:
        system, pid = self._loads.system, self.process.pid
        self._loads.wait(lambda: pid not in system.worker_pids, self._missing)
        (worker,) = [worker for worker in system.workers if worker.pid == pid]
        assert worker.returncode == -signal.SIGKILL

    def wait_until_it_is_stopped(self) -> None:
        self._loads.wait(lambda: self.process.status() == psutil.STATUS_STOPPED, self._missing)

    def go_on(self) -> None:
        """Let it go on that waits, or is stopped."""
        (self._folder / "go").touch()
        os.kill(self.process.pid, signal.SIGCONT)

    def _missing(self) -> str:
        return missing(self._folder)
