"""``deltaq top`` over a thousand tables, and on a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from deltaq.client.look import Look, Watcher
from deltaq.client.overview import Order, draw
from deltaq.tasks.connection import Scripts
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.workers import WorkerFacts, beat
from tests.support.paths import as_path
from tests.support.player import Player
from tests.support.redis import RedisServer
from tests.support.requests import make_append

#: Of a thousand tables, those for which requests wait.
BUSY = 47
PROBLEM = "/data/lake: no space left on device, so nothing of it was written"


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Look]:
    """What there is to see of a thousand tables, 47 of them busy and three of these in trouble."""
    lake = tmp_path_factory.mktemp("thousand")
    with RedisServer() as server:
        settings = load_settings(lake=lake, redis_url=server.url)
        player = Player(settings)
        for number in range(1000):
            name = f"prices.year{number:04}"
            (lake / name / "_delta_log").mkdir(parents=True)
            for lane in (Lane.LIVE, Lane.LIVE, Lane.BULK):
                player.inbox.submit(make_append(name, lane=lane))
        with Watcher(settings) as watcher:
            watcher.look()
            for number in range(BUSY, 1000):
                for lane in (Lane.LIVE, Lane.BULK):
                    player.commit_all(f"prices.year{number:04}", lane)
            for number in range(3):
                name = f"prices.year{number:04}"
                player.lease(name)
                player.inbox.note_retry(name, PROBLEM, first=30, longest=60, token="player")
            for number in range(4):
                facts = WorkerFacts(name=f"deltaq-{number}@web-{number}", slots=4, spark="ready")
                beat(Scripts(player.client), facts)
            yield watcher.look()
        player.close()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_a_thousand_tables_fit_a_screen_without_a_broken_line(
    look: Look, width: int, height: int
) -> None:
    drawn = draw(look, width=width, height=height, order=Order.AGE, keys="q quit")
    console = Console(width=width, height=height, file=io.StringIO(), record=True)
    console.print(drawn)

    shown = console.export_text().rstrip("\n").split("\n")

    assert shown == drawn.plain.split("\n")
    assert len(shown) <= height
    assert max(map(len, shown)) <= width
    tables = [line for line in shown if line.startswith("prices.")]
    failing = [line for line in shown if line.startswith("  failed")]
    assert len(tables) + len(failing) >= height - 10
    assert all(re.match(r"prices\.year\d{4} ", line) for line in tables)
    assert all(line.removesuffix("...").rsplit(" ", 1)[-1] in PROBLEM.split() for line in failing)
    assert shown[0].startswith(f"queue    {3 * BUSY} requests, {BUSY} of 1,000 tables, ")
    more = 1000 - len(tables)
    requests = 3 * (BUSY - len(tables))
    rest = f"{more - 953} of them with {requests} requests" if requests else "all idle"
    assert shown[-2] == f"and {more} more, {rest}"


def test_workers_are_counted_with_the_state_of_spark(look: Look) -> None:
    drawn = draw(look, width=80, height=24, order=Order.AGE, keys="").plain
    assert "workers  4 alive, 0 of 16 slots busy, Spark ready on 4, 0 MiB\n" in drawn


def test_work_is_counted_between_the_signs_of_life_of_each_worker(
    settings: Settings, player: Player
) -> None:
    def tell(name: str, up: float, commits: int) -> None:
        facts = WorkerFacts(name=name, up_seconds=up, commits=commits, settled=3 * commits)
        beat(Scripts(player.client), facts)

    with Watcher(settings) as watcher:
        tell("a", up=10.0, commits=100)
        tell("b", up=50.0, commits=1000)
        assert watcher.look().commits_per_second == 0
        tell("a", up=12.0, commits=120)
        tell("b", up=52.0, commits=1004)
        for _ in range(2):  # no sign of life in between
            look = watcher.look()
            assert (look.commits_per_second, look.settled_per_second) == (12.0, 36.0)
        tell("a", up=0.5, commits=1)  # it was started again
        assert watcher.look().commits_per_second == 2.0


@pytest.mark.on_disk("S3 has no end")
def test_the_disk_is_not_looked_at_each_time(settings: Settings) -> None:
    with Watcher(settings) as watcher:
        assert watcher.look().idle_tables == 0
        (as_path(settings.lake) / "t" / "_delta_log").mkdir(parents=True)
        assert watcher.look().idle_tables == 0
    with Watcher(settings) as watcher:
        assert watcher.look().idle_tables == 1


def test_a_redis_that_stops_and_comes_back_is_seen_by_the_same_watcher(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = load_settings(lake=tmp_path, redis_url=own_redis.url, redis_timeout=1)
    with Watcher(settings) as watcher:
        assert watcher.look_or_tell().problem is None
        own_redis.kill()
        assert "Redis cannot be reached" in (watcher.look_or_tell().problem or "")
        own_redis.start()
        assert watcher.look_or_tell().problem is None
