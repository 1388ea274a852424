"""Which tables the sweeper rings, with a real broker and nobody who takes what is rung."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from deltaq.client import Client
from deltaq.tasks import keys
from deltaq.tasks.broker import count_rung, make_celery, ring
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.sweeper import Sweeper
from tests.support.player import Player
from tests.support.sweeping import make_sweeper
from tests.support.waiting import wait_until

ROWS = pa.table({"n": [1]})
QUEUE = keys.lane_queue(Lane.LIVE)


@pytest.fixture
def sweeper(settings: Settings, player: Player) -> Iterator[Sweeper]:
    with make_celery(settings) as app:
        yield make_sweeper(
            player.client, settings, ring=partial(ring, app), rung=partial(count_rung, app)
        )


@pytest.fixture
def waiting(settings: Settings) -> None:
    """Three tables with a request each, for each of which the client has rung."""
    with Client(settings) as client:
        for table in ("a", "b", "c"):
            client.append(table, ROWS)


@pytest.mark.usefixtures("waiting")
def test_tables_whose_wake_ups_wait_for_a_worker_are_not_rung_again(
    sweeper: Sweeper, player: Player
) -> None:
    assert sweeper.sweep() == 0
    assert player.client.llen(QUEUE) == 3


def test_a_table_is_rung_when_no_wake_up_is_under_way(
    settings: Settings, sweeper: Sweeper, player: Player
) -> None:
    with Client(settings) as client:
        client.append("a", ROWS)
    player.client.delete(QUEUE)

    wait_until(lambda: sweeper.sweep() == 1)

    assert player.client.llen(QUEUE) == 1
    assert sweeper.sweep() == 0


@pytest.mark.usefixtures("waiting")
def test_a_hurried_sweep_rings_whatever_waits(sweeper: Sweeper) -> None:
    assert sweeper.sweep(hurried=True) == 3


@pytest.mark.usefixtures("waiting")
def test_a_table_whose_committer_died_is_rung_at_once(sweeper: Sweeper, player: Player) -> None:
    player.lease("a")
    assert sweeper.sweep() == 0

    player.client.delete(keys.lease("a"))  # its time is over

    assert sweeper.sweep() == 1
    assert sweeper.sweep() == 0


@pytest.mark.usefixtures("waiting")
def test_a_table_whose_committer_died_when_it_was_done_counts_as_asleep_again(
    settings: Settings, sweeper: Sweeper, player: Player
) -> None:
    player.commit_all("a")
    assert sweeper.sweep() == 0
    assert player.client.sismember(keys.TABLES, "a")

    player.client.delete(keys.lease("a"))  # its time is over
    assert sweeper.sweep() == 0

    assert not player.client.sismember(keys.TABLES, "a")
    rung = player.client.llen(QUEUE)
    with Client(settings) as client:
        client.append("a", ROWS)
    assert player.client.llen(QUEUE) == rung + 1


def test_more_tables_than_one_call_looks_at_are_all_found(
    settings: Settings, sweeper: Sweeper
) -> None:
    with Client(settings) as client:
        for n in range(1100):
            client.append(f"t{n}", ROWS)

    assert sweeper.sweep(hurried=True) == 1100


@pytest.mark.on_disk("has a file in a folder's place")
def test_what_puts_sweeps_off_is_told_once_and_so_is_its_end(
    settings: Settings, player: Player, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place = tmp_path / "staging"
    place.write_text("no folder")
    sweeper = make_sweeper(player.client, settings.model_copy(update={"staging": place}))
    sweeper.start()
    try:
        for _ in range(3):
            wait_until(lambda: not sweeper._hurried)
            sweeper.hurry()
        wait_until(lambda: "sweeps are put off" in caplog.text)
        place.unlink()
        wait_until(lambda: "sweeps go on" in caplog.text)
    finally:
        sweeper.close()

    assert caplog.text.count("sweeps are put off") == 1


@pytest.mark.on_disk("names files; see test_s3_staging.py")
def test_what_a_killed_process_began_to_stage_goes_when_nobody_can_be_writing_it(
    settings: Settings, sweeper: Sweeper
) -> None:
    area = StagingArea(settings.staging_root)
    killed = f"""
import os, pathlib
from deltaq.tasks.staging import StagingArea
area = StagingArea(pathlib.Path({str(area.root)!r}))
with area.create(area.request_path("t", "r")) as file:
    file.write(b"PAR1")
    file.flush()
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -9
    (unfinished,) = area.unfinished()

    assert sweeper.clean(older_than=0) == 0
    assert unfinished.exists()
    assert sweeper.clean(older_than=300, unfinished_for=0) == 1
    assert not unfinished.exists()
