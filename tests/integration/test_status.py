"""What is told of the tables for which requests wait."""

from __future__ import annotations

import pyarrow as pa
import pytest

from deltaq.client import Client, Lane
from deltaq.client.look import Watcher
from deltaq.tasks import keys, s3
from deltaq.tasks.settings import Settings, load_settings
from tests.support.player import Player
from tests.support.requests import make_append

ROWS = pa.table({"n": [1]})


def test_a_table_is_listed_with_what_waits_in_each_lane(client: Client, player: Player) -> None:
    assert client.status() == []
    for _ in range(3):
        client.append("t", ROWS)
    client.append("t", ROWS, lane="bulk")
    client.append("u", ROWS)
    player.lease("u")

    t, u = client.status()

    assert (t.table, t.holder, t.retrying) == ("t", None, None)
    assert {lane: s.requests for lane, s in t.lanes.items()} == {Lane.LIVE: 3, Lane.BULK: 1}
    assert t.lanes[Lane.LIVE].size_bytes == 3 * t.lanes[Lane.BULK].size_bytes > 0
    assert 0 <= t.lanes[Lane.LIVE].oldest_seconds < 60
    assert (u.table, u.holder) == ("u", "test")


def test_a_table_that_is_tried_again_tells_why_and_when(client: Client, player: Player) -> None:
    client.append("t", ROWS)
    player.lease("t")
    for problem in ("full", "still full"):
        player.inbox.note_retry("t", problem, first=30.0, longest=60.0, token="player")
    player.client.delete(keys.lease("t"))

    (status,) = client.status()

    assert status.retrying is not None
    assert (status.retrying.error, status.retrying.tries) == ("still full", 2)
    assert 20 < status.retrying.next_seconds <= 60
    player.commit_all("t")
    client.append("t", ROWS)
    assert client.status()[0].retrying is None


def test_what_is_no_request_does_not_hide_the_table(client: Client, player: Player) -> None:
    client.append("t", ROWS)
    player.commit_all("t")
    player.client.xadd(keys.inbox("t", Lane.LIVE), {"r": "not json"}, id="9-0")
    player.client.sadd(keys.TABLES, "t")

    (status,) = client.status()

    assert status.lanes[Lane.LIVE].requests == 1


def test_a_thousand_tables_are_asked_for_together(client: Client, player: Player) -> None:
    client.status()  # connects
    for number in range(1000):
        player.inbox.submit(make_append(f"t{number:03}"))
    before = _reads(player)

    found = client.status()

    assert len(found) == 1000
    # Of at most 16 KB each; one by one it would be 8,000.
    assert _reads(player) - before < 200


def _reads(player: Player) -> int:
    return int(player.client.info("stats")["total_reads_processed"])


def test_the_queue_is_shown_while_the_lake_cannot_be_looked_at(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_RETRY", 0)
    client.append("prices", pa.table({"n": [1]}))
    away = load_settings(
        lake="s3://lake/away",
        redis_url=settings.redis_url,
        s3_endpoint="http://127.0.0.1:1",
        s3_access_key_id="a",
        s3_secret_access_key="b",
    )

    with Watcher(away) as watcher:
        look = watcher.look()

    assert [table.table for table in look.tables] == ["prices"]
    assert look.unseen is not None
    assert (
        "s3://lake/away: cannot be looked at: http://127.0.0.1:1 cannot be reached" in look.unseen
    )
