"""What workers ask of S3, where each call is paid for."""

from __future__ import annotations

import secrets
import threading
from itertools import count

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from deltaq.client import Client, State
from deltaq.tasks.connection import connect
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.backfill.service import Backfills
from deltaq.worker.disks import Disks
from deltaq.worker.engines.urls import open_table
from deltaq.worker.maintenance import slicing
from tests.support.bench import Bench
from tests.support.redis import RedisServer
from tests.support.s3 import S3Server
from tests.support.s3_faults import ACCESS_DENIED
from tests.support.s3_proxy import S3Proxy


@pytest.fixture
def settings(redis_server: RedisServer, s3_server: S3Server, s3_proxy: S3Proxy) -> Settings:
    lake = f"s3://{s3_server.bucket}/{secrets.token_hex(6)}"
    return load_settings(
        lake=lake, redis_url=redis_server.url, **s3_server.settings(s3_proxy.endpoint)
    )


def test_what_can_be_written_is_written_to_now_and_then(
    settings: Settings, s3_proxy: S3Proxy
) -> None:
    disks = Disks(settings)
    for _ in range(5):
        disks.look()

    assert disks.problems() == {}
    assert s3_proxy.round_trips()["PUT"] == 2  # lake and staging area


def test_what_cannot_be_written_is_tried_with_each_look(
    settings: Settings, s3_proxy: S3Proxy
) -> None:
    disks = Disks(settings)
    s3_proxy.inflict(ACCESS_DENIED)
    disks.look()
    assert set(disks.problems()) == {"lake", "staging"}

    s3_proxy.heal()
    disks.look()

    assert disks.problems() == {}


def test_backfills_are_looked_for_now_and_then_and_after_a_hint(
    settings: Settings, s3_proxy: S3Proxy
) -> None:
    with connect(settings) as client:
        inbox = Inbox(client, settings)
        backfills = Backfills(client, inbox, settings, worker="w", ring=lambda *_: None)
        for _ in range(5):
            backfills.sweep()
        listings = s3_proxy.round_trips()["GET"]
        backfills.hint()
        backfills.sweep()
        backfills.close()

    assert listings == 1
    assert s3_proxy.round_trips()["GET"] > 1


@pytest.mark.parametrize("missing", [0, 2])
def test_staged_files_are_removed_with_one_call_whether_all_are_there_or_not(
    settings: Settings, s3_proxy: S3Proxy, missing: int
) -> None:
    staging = StagingArea(settings.staging_root)
    paths = [staging.request_path("t", f"r{n}") for n in range(20)]
    for path in paths[missing:]:
        assert isinstance(path, S3Path)
        path.write_bytes(b"rows")
    s3_proxy.forget()

    staging.remove_all(paths)

    assert s3_proxy.round_trips() == {"POST": 1}
    assert not any(path.exists() for path in paths)


def test_small_files_that_are_put_together_are_read_at_the_same_time(
    settings: Settings, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, files = settings.lake / "t", 6
    for n in range(files):
        rows = pa.table({"k": [2 * n, 2 * n + 1]})
        write_deltalake(
            str(table), rows, mode="append", storage_options=s3_server.storage_options()
        )
    # More than delta-rs is given at once.
    monkeypatch.setattr(slicing, "_PACK_FILES", files - 1)
    get, reads, together = S3Path._get, count(1), threading.Barrier(files)

    def get_with_others(path: S3Path) -> pa.Buffer | int:
        if path.parent == table and next(reads) <= files:
            together.wait(20)  # one after the other, the first would wait in vain
        return get(path)

    bench = Bench(settings)
    with Client(settings) as client:
        optimized = client.optimize("t")
        monkeypatch.setattr(S3Path, "_get", get_with_others)
        bench.committer.drain("t")

        assert optimized.result(10).state is State.COMMITTED
    bench.close()
    found = open_table(table)
    assert len(found.file_uris()) == 1
    assert found.to_pyarrow_table()["k"].to_pylist() == list(range(2 * files))
