"""Backfills whose workers, Redis or client are killed: all of it is in the table, and once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deltaq.client import Client
from deltaq.tasks import keys
from deltaq.tasks.location import Location
from tests.fault.loads import FRAMES, Kind, Load, Loads
from tests.support.backfill_worker import COMMITTING, Place
from tests.support.faulty import Deed
from tests.support.places import files_in, system_at
from tests.support.programs import environment

pytestmark = pytest.mark.timeout(240)

#: What one worker is stopped at, at the same time: any number of commits, and besides one part,
#: and one of the steps for which there is one thread.
_COMMITS = [(place, kind) for place in COMMITTING for kind in Kind]


@pytest.fixture
def loads(place: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loads]:
    settings: dict[str, Any] = {
        "lease_ttl": 1.0,
        "sweep_interval": 0.2,
        "concurrency": 64,
        "stop_timeout": 5.0,
    }
    with system_at(place, workers=0, spark="off", **settings) as system:
        yield Loads(system, tmp_path, monkeypatch)


def test_a_worker_killed_at_any_place_leaves_all_or_nothing_and_the_next_one_ends_it(
    loads: Loads,
) -> None:
    begun: list[Load] = []
    for places in (
        [*_COMMITS, (Place.PREPARING, Kind.APPEND), (Place.DECIDED, Kind.REPLACE)],
        [(Place.PREPARED, Kind.OVERWRITE), (Place.STAGED, Kind.APPEND)],
        [(Place.TOLD, Kind.REPLACE)],
    ):
        some = [loads.begin(*place) for place in places]
        # It also goes on with what the one before has left.
        loads.start_faulty(Deed.KILL, *some).wait_until_it_is_killed()
        for load in some:
            load.check_stopped()
        begun += some

    loads.system.start_worker()

    loads.wait_for_end(*begun)
    with loads.system.client() as client:
        for load in begun:
            check_told(client, load)


def test_a_restart_of_redis_interrupts_neither_parts_nor_commits(loads: Loads) -> None:
    places = [*_COMMITS, (Place.PREPARING, Kind.APPEND), (Place.DECIDED, Kind.REPLACE)]
    begun = [loads.begin(*place) for place in places]
    worker = loads.start_faulty(Deed.WAIT, *begun)
    worker.wait_until_it_waits()

    loads.restart_redis()
    worker.go_on()

    loads.wait_for_end(*begun)
    with loads.system.client() as client:
        for load in begun:
            check_told(client, load)


def check_told(client: Client, load: Load) -> None:
    """Check that whoever asks hears of the commit."""
    verdict = load.backfill.verdict()
    assert verdict is not None
    outcome = client.resume_backfill(load.backfill.backfill_id).result(30)
    assert outcome.version == verdict.version


def test_two_workers_prepare_parts_of_one_backfill_at_the_same_time(loads: Loads) -> None:
    load = loads.begin(Place.PREPARING, Kind.NEW)
    one, other = (loads.start_faulty(Deed.WAIT, load) for _ in range(2))
    with loads.system.redis.connect() as redis:
        # Somebody has the table: the notes of who prepared what stay until it is free.
        redis.hset(keys.lease(load.table), mapping={"token": "t", "fence": 1, "holder": "test"})
        one.wait_until_it_waits()
        other.wait_until_it_waits()
        one.go_on()
        other.go_on()
        loads.wait(lambda: len(load.backfill.prepared()) == len(FRAMES))
        parts = [load.backfill.part(number) for number in range(len(FRAMES))]
        redis.delete(keys.lease(load.table))

    assert len({part.worker for part in parts if part}) == 2
    loads.wait_for_end(load)


@pytest.mark.parametrize("deed", [Deed.KILL, Deed.STOP])
def test_a_part_of_a_worker_that_is_gone_is_taken_over_by_one_that_runs(
    loads: Loads, deed: Deed
) -> None:
    load = loads.begin(Place.PREPARING, Kind.APPEND)
    running, gone = loads.start_faulty(Deed.WAIT, load), loads.start_faulty(deed, load)
    running.wait_until_it_waits()
    if deed is Deed.KILL:
        gone.wait_until_it_is_killed()
    else:
        gone.wait_until_it_is_stopped()

    running.go_on()

    loads.wait_for_end(load)
    if deed is Deed.STOP:
        gone.go_on()
        running.process.terminate()
        # It has to end what it was at before it is at this one.
        later = loads.begin(Place.PREPARED, Kind.REPLACE)
        loads.wait_for_end(later)
        load.check_whole()


def start_client(loads: Loads, load: Load, *more: str) -> subprocess.Popen[bytes]:
    """Start a program that loads the frames of a backfill."""
    command = [sys.executable, "-m", "tests.fault.loading_program", load.table]
    return subprocess.Popen(
        [*command, load.backfill.backfill_id, str(loads.folder), *more],
        env=environment(**loads.system.env),
    )


@pytest.mark.s3
def test_a_backfill_survives_the_loss_of_redis_and_the_death_of_its_client(loads: Loads) -> None:
    load = loads.only_named(Place.PREPARING, Kind.NEW)
    worker = loads.start_faulty(Deed.WAIT, load)
    client = start_client(loads, load)
    worker.wait_until_it_waits()
    loads.wait((loads.folder / "begun").exists)

    client.kill()
    client.wait()
    loads.restart_redis(emptied=True)
    worker.go_on()

    loads.wait_for_end(load)


def test_a_client_killed_while_it_uploads_has_begun_nothing_and_may_do_it_again(
    loads: Loads,
) -> None:
    load = loads.only_named(Place.PREPARING, Kind.NEW)
    loads.system.start_worker()
    for last in (False, True):
        killed = start_client(loads, load, "hold")
        loads.wait((loads.folder / "uploading").exists)
        killed.kill()
        killed.wait()
        (loads.folder / "uploading").unlink()
        assert files_in(load.backfill.uploads)
        with loads.system.client() as client:
            assert client.backfills() == []
            assert not client.exists(load.table)
        if not last:
            with loads.backfills() as backfills:
                assert backfills.expire() == 0
                assert backfills.expire(unbegun_for=0.0) == 1
            assert not load.backfill.folder.exists()

    again = start_client(loads, load)

    assert again.wait(60) == 0
    loads.wait_for_end(load)
