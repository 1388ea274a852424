"""What processes that die leave behind in a staging area in S3, and how long."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deltaq.client import Client
from deltaq.tasks.connection import connect
from deltaq.tasks.errors import ConfigurationError, StorageUnavailable
from deltaq.tasks.request import Lane
from deltaq.tasks.results import publish, result_files
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.scan_folder import ScanFolder
from deltaq.tasks.settings import Settings, load_settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.sweeper import Sweeper
from tests.support import s3_faults as faults
from tests.support.bench import Bench
from tests.support.places import files_in
from tests.support.programs import environment
from tests.support.redis import RedisServer
from tests.support.s3 import S3Server
from tests.support.s3_faults import Call, Cut, is_conditional_put
from tests.support.s3_proxy import S3Proxy
from tests.support.sweeping import make_sweeper
from tests.support.waiting import wait_until

#: 24 MiB that do not compress: three parts.
LARGE = pa.table({"blob": [os.urandom(1 << 20) for _ in range(24)]})
DAY = 86400


@pytest.fixture
def settings(
    redis_server: RedisServer, s3_server: S3Server, s3_proxy: S3Proxy, s3_url: str
) -> Settings:
    given = s3_server.settings(s3_proxy.endpoint)
    return load_settings(lake=f"{s3_url}/lake", redis_url=redis_server.url, **given)


@pytest.fixture
def staging(settings: Settings) -> S3Path:
    assert isinstance(settings.staging_root, S3Path)
    return settings.staging_root


@pytest.fixture
def sweeper(settings: Settings) -> Iterator[Sweeper]:
    with connect(settings) as client:
        yield make_sweeper(client, settings)


def unfinished(folder: S3Path) -> list[Any]:
    bucket = folder.bucket
    listed = bucket.uploads.list_multipart_uploads(Bucket=bucket.name, Prefix=folder.key)
    return list(listed.get("Uploads", ()))


def test_a_client_killed_in_an_upload_leaves_nothing_to_see_and_after_a_day_nothing(
    settings: Settings, staging: S3Path, sweeper: Sweeper
) -> None:
    program = """
import os, pyarrow as pa
from deltaq.client import Client

def batches():
    for n in range(80):
        yield pa.record_batch({"blob": [os.urandom(1 << 20)]})
    os.kill(os.getpid(), 9)

with Client() as client:
    rows = pa.RecordBatchReader.from_batches(pa.schema([("blob", pa.binary())]), batches())
    client.append("t", rows)
"""
    values = {
        "lake": settings.lake,
        "redis_url": settings.redis_url.get_secret_value(),
        "s3_endpoint": settings.s3_endpoint,
        "s3_access_key_id": settings.s3_access_key_id,
        "s3_secret_access_key": staging.bucket.options.secret_access_key,
    }
    env = environment(**{f"DELTAQ_{name.upper()}": str(value) for name, value in values.items()})

    killed = subprocess.run([sys.executable, "-c", program], env=env, check=False)

    assert killed.returncode == -9
    assert files_in(staging) == []
    assert len(unfinished(staging)) == 1
    assert sweeper.clean(older_than=300) == 0
    assert len(unfinished(staging)) == 1, "a slow client may still be at it"
    wait_until(lambda: sweeper.clean(older_than=300, unfinished_for=0) == 1)
    assert unfinished(staging) == []


def test_an_upload_ended_by_its_owner_meanwhile_is_no_matter(
    staging: S3Path, sweeper: Sweeper, s3_proxy: S3Proxy
) -> None:
    for name in "ab":
        staging.bucket.uploads.create_multipart_upload(
            Bucket=staging.bucket.name, Key=f"{staging.key}/requests/t/{name}"
        )
    gone = faults.Refusal(status=404, code="NoSuchUpload")
    s3_proxy.inflict(gone, only=lambda call: call.method == "DELETE", times=1)

    assert sweeper.clean(older_than=300, unfinished_for=-2) == 2

    assert len(unfinished(staging)) == 1


def test_an_account_that_may_not_end_uploads_is_told_of_it_and_all_else_goes(
    settings: Settings, staging: S3Path, sweeper: Sweeper, s3_proxy: S3Proxy
) -> None:
    settled_file(settings, staging)
    s3_proxy.inflict(faults.ACCESS_DENIED, only=lambda call: call.query.startswith("uploads"))

    with pytest.raises(StorageUnavailable, match="unfinished uploads: this account may not"):
        sweeper.clean(older_than=-2)

    assert files_in(staging / "requests") == []


def settled_file(settings: Settings, staging: S3Path) -> None:
    """Leave the staged file of a request that is settled, as a worker that dies then does."""
    bench = Bench(settings)
    with Client(settings) as client:
        request_id = client.append("t", pa.table({"n": [1]})).request_id
    path = StagingArea(staging).request_path("t", request_id)
    content = path.read_bytes()
    bench.committer.drain("t")
    bench.close()
    path.write_bytes(content)


def test_what_is_settled_and_what_is_old_goes_and_what_is_queued_stays(
    settings: Settings, staging: S3Path
) -> None:
    settled_file(settings, staging)
    area = StagingArea(staging)
    with Client(settings) as client:
        queued = client.append("t", pa.table({"n": [2]}))
    for result in (area.read_path("r1") / "0.arrow", area.read_path("r1") / "files.json"):
        result.write_bytes(b"result")
    dead = area.dead_path("t", "d1")
    dead.write_bytes(b"rows")
    dead.with_suffix(".json").write_bytes(b"{}")
    long = settings.model_copy(update={"read_ttl": DAY, "dead_letter_ttl": DAY})
    short = settings.model_copy(update={"read_ttl": 0.01, "dead_letter_ttl": 1})

    with connect(settings) as client:
        assert make_sweeper(client, long).clean(older_than=DAY) == 0
        assert len(files_in(staging)) == 6
        cleaner = make_sweeper(client, short)
        wait_until(lambda: cleaner.clean(older_than=-2) == 0 and len(files_in(staging)) == 1)

    assert files_in(staging) == [area.request_path("t", queued.request_id)]


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.UPLOAD, Cut.ANSWER], ids=str)
@pytest.mark.parametrize("rows", [pa.table({"n": [1]}), LARGE], ids=["small", "large"])
def test_a_submission_whose_connection_breaks_is_committed_once(
    settings: Settings, staging: S3Path, s3_proxy: S3Proxy, rows: pa.Table, cut: Cut
) -> None:
    s3_proxy.inflict(cut, only=_is_staged, times=1)
    bench = Bench(settings)

    with Client(settings) as client:
        first = client.append("t", rows, request_id="once")
        again = client.append("t", rows, request_id="once")
        bench.committer.drain("t")
        assert first.result(timeout=10).version == again.result(timeout=10).version == 0
    bench.close()

    assert [group.lane for group in bench.router.applied] == [Lane.LIVE]
    assert files_in(staging / "requests") == []
    assert unfinished(staging) == []


def _is_staged(call: Call) -> bool:
    """Tell the call by which a staged file appears."""
    is_last = call.method == "PUT" and not call.query
    return "/requests/" in call.path and (is_last or "uploadId" in call.query)


def test_what_is_made_once_is_its_makers_although_the_answer_was_lost(
    staging: S3Path, s3_proxy: S3Proxy, tmp_path: Path
) -> None:
    s3_proxy.inflict(Cut.ANSWER, only=is_conditional_put, every=2)

    for number in range(3):
        folder = staging / "reads" / f"scan{number}"
        assert ScanFolder(folder).claim()
        assert not ScanFolder(folder).claim()

    made = tmp_path / "made"
    made.mkdir()
    (made / "part-0.arrow").write_bytes(b"rows")
    for result in ("one", "two", "three"):
        publish(made, staging / "reads" / result)

        (file,) = result_files(staging / "reads" / result)
        assert file.read_bytes() == b"rows"


def test_a_forked_process_is_told_that_it_cannot_use_s3(settings: Settings) -> None:
    answer, question = os.pipe()
    with Client(settings) as client:
        client.append("t", pa.table({"n": [1]}))
        child = os.fork()
        if child == 0:  # what pytest knows of must not run twice: leave by _exit alone
            told = b"nothing"
            try:
                client.append("t", pa.table({"n": [2]}))
            except ConfigurationError as exc:
                told = exc.message.encode()
            finally:
                os.write(question, told)
                os._exit(0)
        assert b"forked" in os.read(answer, 1000)
        os.waitpid(child, 0)
    for end in (answer, question):
        os.close(end)


def test_a_disk_has_no_uploads(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = load_settings(lake=tmp_path, redis_url=redis_server.url)
    with connect(settings) as client:
        assert make_sweeper(client, settings).clean(older_than=0) == 0
