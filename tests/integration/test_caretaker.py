"""Policies of tables, from the commits that a worker sees to the maintenance that it does."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from deltaq.client import Client, InvalidRequest, State
from deltaq.tasks.location import Location
from deltaq.tasks.request import Checkpoint, Lane, Optimize, Request, Vacuum
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.signing import signer_of
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.groups import CommitGroup, Waiting
from deltaq.worker.lake import Lake
from deltaq.worker.maintenance import caretaker as caretaker_module
from deltaq.worker.maintenance.caretaker import Caretaker
from deltaq.worker.observers import GroupCommitted
from deltaq.worker.router import Performed
from deltaq.worker.signatures import Signatures
from deltaq.worker.warm import WarmSpark
from tests.support.bench import Bench
from tests.support.paths import as_path
from tests.support.requests import make_append
from tests.support.waiting import wait_until

ROWS = pa.table({"day": ["a", "b"], "k": [1, 2]})


class Care:
    """A caretaker beside a committer, which drains when the test says so."""

    def __init__(self, settings: Settings, *, warm: WarmSpark | None = None) -> None:
        self.bench = Bench(settings, warm=warm)
        self.rung: list[tuple[str, Lane]] = []
        native = NativeEngine(Lake(settings.lake), self.bench.staging)
        self.caretaker = Caretaker(
            native,
            self.bench.inbox,
            settings,
            open_reads=self.bench.open_reads,
            ring=lambda *rung: self.rung.append(rung),
        )
        self.bench.committer._observers = self.caretaker

    def look(self, *, asleep: bool = False) -> Request | None:
        return self.caretaker.look_after("t", asleep=asleep)

    def files(self) -> int:
        return len(DeltaTable(str(self.bench.settings.lake / "t")).file_uris())


@pytest.fixture
def few(settings: Settings) -> Settings:
    """Settings by which three small files in a partition are too many."""
    return load_settings(
        **settings.model_dump(exclude_unset=True), policy_compact_files=2, maintenance_share=1
    )


@pytest.fixture
def care(few: Settings) -> Iterator[Care]:
    care = Care(few)
    yield care
    care.bench.close()


def fill(care: Care, client: Client, commits: int) -> None:
    for _ in range(commits):
        future = client.append("t", ROWS, partition_by=["day"])
        care.bench.committer.drain("t")
        future.result(30)


def test_what_the_policy_asks_for_is_done_and_told_in_the_history(
    care: Care, client: Client
) -> None:
    fill(care, client, 2)
    assert care.look() is None
    fill(care, client, 1)

    asked = care.look()

    assert isinstance(asked, Optimize)
    assert care.rung == [("t", Lane.MAINTENANCE)]
    care.bench.committer.drain("t")
    assert care.files() == 2
    outcome = client.outcome("t", asked.request_id)
    assert outcome is not None
    assert outcome.state is State.COMMITTED
    (newest,) = (
        NativeEngine(Lake(care.bench.settings.lake), care.bench.staging).history("t", 1).to_pylist()
    )
    assert newest["request_ids"] == [asked.request_id]
    assert newest["user"] == (
        "policy: 3 files in one partition are below 0.5 MiB, of 2 that may be"
    )
    assert care.look() is None


def test_of_two_workers_that_ask_at_once_one_is_heard(
    care: Care, few: Settings, client: Client
) -> None:
    fill(care, client, 3)
    other = Care(few)
    place = other.bench.inbox.next_place("t", Lane.MAINTENANCE)
    other.bench.inbox.next_place = lambda *_: place  # type: ignore[method-assign]

    first, second = care.look(), other.look()

    assert first is not None
    assert second == first
    assert care.look() is None  # while it waits
    care.bench.committer.drain("t")
    assert [g.lane for g in care.bench.router.applied[3:]] == [Lane.MAINTENANCE]
    other.bench.close()


def test_a_table_follows_its_own_policy_before_that_of_the_settings(
    care: Care, client: Client
) -> None:
    fill(care, client, 3)
    client.set_policy("t", compact_files=0).add_done_callback(lambda _: None)
    care.bench.committer.drain("t")
    assert care.look() is None

    client.set_policy("t", compact_files=1, zorder="k").add_done_callback(lambda _: None)
    care.bench.committer.drain("t")

    compacted = care.look()
    assert isinstance(compacted, Optimize)
    assert compacted.zorder == ()
    care.bench.committer.drain("t")
    ordered = care.look()
    assert isinstance(ordered, Optimize)
    assert ordered.zorder == ("k",)
    care.bench.committer.drain("t")
    assert care.look() is None
    with pytest.raises(InvalidRequest, match="168"):
        client.set_policy("t", vacuum_hours=1)


def test_when_a_table_was_ordered_and_vacuumed_is_told_by_its_log(
    care: Care, few: Settings, client: Client
) -> None:
    fill(care, client, 1)
    client.set_policy("t", vacuum_hours=200, zorder="k").add_done_callback(lambda _: None)
    care.bench.committer.drain("t")
    kinds = []
    for _ in range(3):
        asked = care.look()
        kinds.append(type(asked))
        care.bench.committer.drain("t")
    assert kinds == [Optimize, Vacuum, type(None)]

    restarted = Care(few)
    assert restarted.look() is None
    restarted.bench.close()


def test_a_table_that_falls_asleep_gets_its_checkpoint(care: Care, client: Client) -> None:
    fill(care, client, 11)
    log = care.bench.settings.lake / "t" / "_delta_log"
    assert not list(log.glob("*.checkpoint.parquet"))

    care.look(asleep=True)

    assert len(list(log.glob("*.checkpoint.parquet"))) == 1


def age_log(log: Path, *, days: float, below: int) -> None:
    """Make the entries of a log, below a version, look as if they were written long ago."""
    moment = time.time() - days * 86400
    for entry in log.iterdir():
        if entry.name[:20].isdigit() and int(entry.name[:20]) < below:
            os.utime(entry, (moment, moment))


def versions(log: Location) -> list[int]:
    return sorted(int(entry.stem) for entry in log.glob("*.json") if entry.stem.isdigit())


@pytest.fixture
def uncompacted(settings: Settings) -> Iterator[Care]:
    """A caretaker that does not compact: delta-rs would clean the log as it does."""
    care = Care(load_settings(**settings.model_dump(exclude_unset=True), policy_compact_files=0))
    yield care
    care.bench.close()


@pytest.mark.on_disk("sets the times of log entries")
def test_entries_of_a_log_go_when_its_retention_and_a_checkpoint_are_past(
    uncompacted: Care, client: Client
) -> None:
    care = uncompacted
    fill(care, client, 8)
    path = as_path(care.bench.settings.lake) / "t"
    log = path / "_delta_log"
    DeltaTable(str(path)).create_checkpoint()  # of version 7
    fill(care, client, 1)
    age_log(log, days=31, below=5)
    care.look()
    assert versions(log) == [*range(9)]  # no checkpoint is as old, so they are still needed
    age_log(log, days=31, below=8)
    fill(care, client, 1)
    care.caretaker._known["t"].clean_from = 0.0

    with care.bench.open_reads.hold(["t"], version=2):
        care.look()
    assert versions(log) == [*range(10)]
    care.caretaker._known["t"].clean_from = 0.0
    care.look()

    assert versions(log) == [7, 8, 9]
    for version in (7, 8, 9):  # what the retention covers, and where it begins
        assert DeltaTable(str(path), version=version).to_pyarrow_table().num_rows == 2 * (
            version + 1
        )
    future = client.append("t", ROWS)
    care.bench.committer.drain("t")
    assert future.result(5).version == 10


@pytest.mark.on_disk("sets the times of log entries")
@pytest.mark.parametrize(
    "properties",
    [
        {"delta.logRetentionDuration": "interval 60 days"},
        {"delta.enableExpiredLogCleanup": "false"},
    ],
)
def test_entries_stay_in_a_log_whose_table_says_so(
    uncompacted: Care, client: Client, properties: dict[str, str]
) -> None:
    care = uncompacted
    path = as_path(care.bench.settings.lake) / "t"
    write_deltalake(str(path), ROWS, configuration=properties, partition_by=["day"])
    fill(care, client, 1)
    DeltaTable(str(path)).create_checkpoint()
    age_log(path / "_delta_log", days=31, below=2)
    fill(care, client, 1)

    care.look()

    assert versions(path / "_delta_log") == [0, 1, 2]


@pytest.mark.timeout(300)
def test_a_worker_that_leaves_all_writing_to_spark_has_it_look_after_tables(
    few: Settings, client: Client, warm_spark: WarmSpark
) -> None:
    given = few.model_dump(exclude_unset=True)
    settings = load_settings(**given, engine="spark", policy_checkpoint_commits=4)
    care = Care(settings, warm=warm_spark)
    fill(care, client, 3)
    log = care.bench.settings.lake / "t" / "_delta_log"

    asked = [care.look()]
    care.bench.committer.drain("t")
    assert not list(log.glob("*.checkpoint.parquet"))
    asked.append(care.look())
    care.bench.committer.drain("t")

    assert [type(request) for request in asked] == [Optimize, Checkpoint]
    assert list(log.glob("*.checkpoint.parquet"))
    assert care.files() == 2
    care.bench.close()


def test_a_table_with_its_own_number_of_commits_gets_checkpoints_by_it(
    care: Care, client: Client
) -> None:
    fill(care, client, 1)
    client.set_policy("t", checkpoint_commits=3).add_done_callback(lambda _: None)
    care.bench.committer.drain("t")

    fill(care, client, 2)

    log = care.bench.settings.lake / "t" / "_delta_log"
    assert [f.name[:20] for f in log.glob("*.checkpoint.parquet")] == ["00000000000000000002"]


def test_maintenance_that_failed_is_not_asked_for_again_at_once(
    care: Care, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(care, client, 3)
    for _ in range(8):
        tell_of_a_commit(care)
    asked = care.look()
    assert asked is not None
    care.bench.failures.append(InvalidRequest("no"))
    care.bench.committer._settlement._observers = care.caretaker

    care.bench.committer.drain("t")

    assert care.caretaker.due() == []
    monkeypatch.setattr(caretaker_module, "_ASLEEP", 0.0)
    assert care.caretaker.due() == []


def test_tables_are_looked_at_after_some_commits_and_once_when_they_sleep(
    care: Care, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(7):
        tell_of_a_commit(care)
    assert care.caretaker.due() == []
    tell_of_a_commit(care)
    assert care.caretaker.due() == [("t", False)]
    assert care.caretaker.due() == []
    monkeypatch.setattr(caretaker_module, "_ASLEEP", 0.0)
    assert care.caretaker.due() == [("t", True)]
    assert care.caretaker.due() == []
    tell_of_a_commit(care)
    assert care.caretaker.due() == [("t", True)]


def tell_of_a_commit(care: Care) -> None:
    group = CommitGroup(
        table="t",
        lane=Lane.LIVE,
        app_id="deltaq/e/live",
        members=(Waiting(sequence=1, request=make_append("t")),),
    )
    performed: Any = Performed
    care.caretaker.group_committed(
        GroupCommitted(
            group=group, performed=performed, outcomes=(), attempt=1, began=0.0, commit_seconds=0.1
        )
    )


def test_its_thread_asks_without_being_told(
    care: Care, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caretaker_module, "_ROUND", 0.01)
    monkeypatch.setattr(caretaker_module, "_ASLEEP", 0.0)
    fill(care, client, 3)
    care.caretaker.start()

    wait_until(lambda: bool(care.rung))

    care.caretaker.close()
    care.bench.committer.drain("t")
    assert care.files() == 2


def test_workers_that_ask_for_signatures_take_what_a_policy_asks_for(
    few: Settings, client: Client
) -> None:
    signed = load_settings(**few.model_dump(exclude_unset=True), signing_key="k" * 40)
    care = Care(signed)
    for _ in range(3):
        write_deltalake(str(signed.lake / "t"), ROWS, mode="append", partition_by=["day"])
    with Client(signed) as signing:
        fill(care, signing, 1)
        signer = signer_of(signed)
        assert signer is not None
        care.bench.committer._signatures = Signatures(signer, care.bench.staging)
        asked = care.look()
        assert asked is not None
        care.bench.committer.drain("t")
        outcome = signing.outcome("t", asked.request_id)
    assert outcome is not None
    assert outcome.state is State.COMMITTED
    care.bench.close()
