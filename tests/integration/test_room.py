"""What a client does when a lane, Redis or the staging area's disk is full, or nobody answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from deltaq.client import (
    Client,
    InvalidRequest,
    QueueFull,
    QueueUnavailable,
    ResultTimeout,
    StagingFull,
    StorageUnavailable,
    backfill_run,
)
from deltaq.tasks.location import Location
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.staging import staged_request
from tests.support.disk import small_disk
from tests.support.places import files_in
from tests.support.player import Player
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

TABLE = "prices"
ROWS = pa.table({"symbol": ["A", "B"], "price": [1.0, 2.0]})


@pytest.fixture
def small(settings: Settings) -> Settings:
    """Settings for lanes of one request."""
    return settings.model_copy(update={"inbox_max_requests": 1})


@pytest.fixture
def client(small: Settings) -> Iterator[Client]:
    with Client(small) as client:
        yield client


@pytest.fixture
def player(small: Settings) -> Iterator[Player]:
    player = Player(small)
    yield player
    player.close()


def staged_files(settings: Settings) -> list[Location]:
    return files_in(settings.staging_root)


def test_a_full_lane_is_waited_for_and_the_frame_is_staged_once(
    client: Client, player: Player, small: Settings
) -> None:
    client.append(TABLE, ROWS)
    batches = pa.RecordBatchReader.from_batches(ROWS.schema, iter(ROWS.to_batches()))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.append, TABLE, batches, block=True)
        wait_until(lambda: len(staged_files(small)) == 2)
        assert not waiting.done()
        player.commit_all(TABLE)
        future = waiting.result(timeout=10)
    [request] = player.waiting(TABLE)
    [file] = staged_files(small)
    assert staged_request(file) == request
    assert (request.request_id, request.rows) == (future.request_id, 2)  # type: ignore[union-attr]


def test_all_who_wait_for_room_get_in(client: Client, player: Player) -> None:
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.append, TABLE, ROWS, block=True) for _ in range(8)]
        for _ in calls:
            wait_until(lambda: player.waiting(TABLE))
            player.commit_all(TABLE)
        futures = [call.result(timeout=10) for call in calls]
    assert {future.result(timeout=10).version for future in futures} == {7}


def test_the_wait_for_room_ends_with_the_numbers_and_leaves_nothing_behind(
    client: Client, small: Settings
) -> None:
    client.append(TABLE, ROWS)
    [first] = staged_files(small)
    with pytest.raises(QueueFull, match=r"inbox_max_requests=1.*waited 0\.[1-9] s") as caught:
        client.delete(TABLE, where="true", block=True, timeout=0.1)
    details = caught.value.details
    assert (details["waiting"], details["max_requests"]) == (1, 1)
    assert details["waiting_bytes"] == staged_request(first).size_bytes
    assert details["max_bytes"] == small.inbox_max_bytes
    assert details["waited_seconds"] >= 0.1
    assert staged_files(small) == [first]


def test_without_block_and_with_no_time_a_full_lane_is_told_at_once(client: Client) -> None:
    client.append(TABLE, ROWS)
    with pytest.raises(QueueFull) as at_once:
        client.append(TABLE, ROWS)
    assert "waited_seconds" not in at_once.value.details
    with pytest.raises(QueueFull) as caught:
        client.append(TABLE, ROWS, block=True, timeout=0)
    assert caught.value.details["waited_seconds"] == 0


def test_redis_at_its_memory_limit_is_waited_for(
    redis_server: RedisServer, settings: Settings, player: Player
) -> None:
    with Client(settings) as client, redis_server.client() as redis, ThreadPoolExecutor() as pool:
        client.append("other", ROWS)
        redis.config_set("maxmemory", 1)
        with pytest.raises(QueueFull, match="memory limit"):
            client.append(TABLE, ROWS, block=True, timeout=0.05)
        waiting = pool.submit(client.append, TABLE, ROWS, block=True, timeout=20)
        wait_until(lambda: len(staged_files(settings)) == 2)
        redis.config_set("maxmemory", 0)
        assert waiting.result(timeout=10).request_id == player.waiting(TABLE)[0].request_id


def test_a_redis_that_dies_while_room_is_awaited_ends_the_wait(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = load_settings(
        lake=tmp_path, redis_url=own_redis.url, redis_timeout=0.5, inbox_max_requests=1
    )
    with Client(settings) as client, ThreadPoolExecutor() as pool:
        client.append(TABLE, ROWS)
        waiting = pool.submit(client.append, TABLE, ROWS, block=True)
        wait_until(lambda: len(staged_files(settings)) == 2)
        own_redis.kill()
        error = waiting.exception(timeout=10)
    assert isinstance(error, QueueUnavailable)
    assert Path(error.details["staged_file"]).exists()


def test_closing_the_client_ends_a_wait_for_room(client: Client, small: Settings) -> None:
    client.append(TABLE, ROWS)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.append, TABLE, ROWS, block=True)
        wait_until(lambda: len(staged_files(small)) == 2)
        client.close()
        assert isinstance(waiting.exception(timeout=10), InvalidRequest)
    assert len(staged_files(small)) == 1


@pytest.mark.on_disk("S3 has no end")
def test_a_disk_with_too_little_room_takes_no_file(settings: Settings) -> None:
    limit = 1 << 60
    with Client(settings, staging_min_free_bytes=limit) as client:
        with pytest.raises(StagingFull, match=f"staging_min_free_bytes={limit}") as caught:
            client.append(TABLE, ROWS, block=True, timeout=0.05)
        with pytest.raises(StagingFull):
            client.delete(TABLE, where="true")
    assert caught.value.details["min_free_bytes"] == limit
    assert 0 < caught.value.details["free_bytes"] < limit
    assert caught.value.details["waited_seconds"] >= 0.05
    assert not settings.staging_root.exists()


def test_room_on_the_staging_disk_is_waited_for(
    settings: Settings, tmp_path: Path, player: Player
) -> None:
    with small_disk(tmp_path / "disk", size="8m") as disk, ThreadPoolExecutor() as pool:
        staging = disk.root / "staging"
        with Client(settings, staging=staging, staging_min_free_bytes=4 << 20) as client:
            disk.fill()
            waiting = pool.submit(client.append, TABLE, ROWS, block=True, timeout=20)
            with pytest.raises(StagingFull):
                client.append(TABLE, ROWS)
            disk.free()
            assert waiting.result(timeout=10).request_id == player.waiting(TABLE)[0].request_id


def test_a_disk_that_fills_up_while_staging_keeps_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    many = pa.table({"n": pa.array(range(2_000_000))})
    with small_disk(tmp_path / "disk", size="4m") as disk:
        staging = disk.root / "staging"
        with Client(settings, staging=staging, staging_min_free_bytes=0) as client:
            with pytest.raises(StagingFull, match="No space left"):
                client.append(TABLE, many)
            client.append(TABLE, ROWS)
        assert len([f for f in staging.rglob("*") if f.is_file()]) == 1


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon", True])
def test_a_timeout_that_cannot_be_meant_is_refused(
    client: Client, small: Settings, timeout: float
) -> None:
    with pytest.raises(InvalidRequest, match="timeout must be seconds"):
        client.append(TABLE, ROWS, block=True, timeout=timeout)
    assert not small.staging_root.exists()


def test_a_timeout_without_block_is_refused(client: Client, small: Settings) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.append(TABLE, ROWS, timeout=1),
        lambda: client.overwrite(TABLE, ROWS, timeout=1),
        lambda: client.merge(TABLE, ROWS, keys="symbol", timeout=1),
        lambda: client.delete(TABLE, where="true", timeout=1),
    ]
    for call in calls:
        with pytest.raises(InvalidRequest, match="block=True"):
            call()
    assert not small.staging_root.exists()


def test_what_stops_a_file_for_want_of_room_is_caught_as_storage_trouble() -> None:
    assert issubclass(StagingFull, StorageUnavailable)


def test_a_backfill_that_no_worker_answers_says_what_it_waits_for_and_leaves_nothing(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(backfill_run, "_SILENT_SECONDS", 0.1)
    monkeypatch.setattr(backfill_run, "_ANSWER_SECONDS", 0.1)
    (tmp_path / "day.csv").write_text("symbol,price\nIBM,101.5\n")

    with Client(settings) as client, caplog.at_level("INFO", "deltaq.client"):
        with pytest.raises(ResultTimeout, match="does a worker run that serves reads"):
            client.backfill(TABLE, tmp_path / "day.csv", upload=True)
        assert client.backfills() == []

    assert "waiting for a worker to tell the columns of table prices" in caplog.text
    assert staged_files(settings) == []
