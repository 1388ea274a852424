"""What waits, in figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from deltaq.client import Client
from deltaq.tasks import keys
from deltaq.tasks.backlog import LaneBacklog, read_backlog, take_cancelled
from deltaq.tasks.connection import Scripts
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import Settings, load_settings
from deltaq.worker.gauges import QueueGauges
from tests.support.player import Player
from tests.support.redis import RedisServer
from tests.support.requests import make_append

ROWS = pa.table({"n": [1]})
_OLDEST = "deltaq_table_queue_oldest_seconds"


def read(player: Player) -> dict[tuple[str, Lane], LaneBacklog]:
    return {(found.table, found.lane): found for found in read_backlog(Scripts(player.client))}


def samples(gauges: QueueGauges) -> dict[tuple[str, str], float]:
    """Collect them: (name, value of the label) to value."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in gauges.collect()
        for sample in family.samples
    }


@pytest.fixture
def gauges(settings: Settings) -> Iterator[QueueGauges]:
    gauges = QueueGauges(settings, tables=2, cancelled=lambda *_: None)
    yield gauges
    gauges.close()


def test_it_tells_of_each_lane_in_which_requests_wait(client: Client, player: Player) -> None:
    assert read(player) == {}
    for _ in range(3):
        client.append("t", ROWS)
    client.append("t", ROWS, lane="bulk")
    client.append("u", ROWS)
    player.lease("u")
    player.inbox.note_retry("u", "full", first=30.0, longest=60.0, token="player")

    found = read(player)

    assert set(found) == {("t", Lane.LIVE), ("t", Lane.BULK), ("u", Lane.LIVE)}
    live, bulk = found["t", Lane.LIVE], found["t", Lane.BULK]
    assert (live.requests, bulk.requests) == (3, 1)
    assert live.size_bytes == 3 * bulk.size_bytes > 0
    assert 0 <= live.oldest_seconds < 60
    assert (live.retrying, found["u", Lane.LIVE].retrying) == (False, True)


def test_what_is_no_request_is_counted_all_the_same(player: Player) -> None:
    for table, wire in (("t", "not json"), ("u", "[]"), ("v", '{"submitted_at_ms": "x"}')):
        player.client.xadd(keys.inbox(table, Lane.LIVE), {"r": wire}, id="9-0")
        player.client.sadd(keys.TABLES, table)

    assert [(b.requests, b.oldest_seconds) for b in read(player).values()] == [(1, 0.0)] * 3


def test_a_thousand_tables_are_a_few_calls_and_a_few_series(
    player: Player, gauges: QueueGauges
) -> None:
    for number in range(1000):
        request = make_append(f"t{number:03}")
        age_ms = 60_000 if number in (7, 300) else 0
        player.inbox.submit(
            msgspec.structs.replace(request, submitted_at_ms=request.submitted_at_ms - age_ms)
        )
    samples(gauges)  # connects, and loads the script
    calls = _calls(player)

    assert len(read(player)) == 1000
    assert _calls(player) - calls <= 8

    told = samples(gauges)
    assert told["deltaq_queue_requests", "live"] == 1000
    assert told["deltaq_queue_tables", ""] == 1000
    assert {label for name, label in told if name == _OLDEST} == {"t007", "t300"}
    assert 60 <= told[_OLDEST, "t007"] < 120


def test_each_cancelled_request_is_counted_once(client: Client, player: Player) -> None:
    futures = [client.append("t", ROWS), client.append("t", ROWS), client.delete("u", where="true")]
    client.append("t", ROWS)

    assert all(future.cancel() for future in futures)
    assert futures[0].cancel()  # once more

    assert sorted(take_cancelled(Scripts(player.client))) == [
        ("t", "append", 2),
        ("u", "delete", 1),
    ]
    assert take_cancelled(Scripts(player.client)) == []


def test_an_empty_queue_is_told_as_zero(gauges: QueueGauges) -> None:
    told = samples(gauges)

    for lane in Lane:
        assert told["deltaq_queue_requests", lane] == 0
        assert told["deltaq_queue_oldest_seconds", lane] == 0


def test_nothing_is_told_of_a_redis_that_is_away(own_redis: RedisServer, tmp_path: Path) -> None:
    settings = load_settings(lake=tmp_path, redis_url=own_redis.url)
    gauges = QueueGauges(settings, tables=2, cancelled=lambda *_: None)
    own_redis.kill()
    try:
        assert samples(gauges) == {}
    finally:
        own_redis.start()
        gauges.close()


def _calls(player: Player) -> int:
    found = player.client.info("commandstats")
    return sum(
        int(found.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "eval")
    )
