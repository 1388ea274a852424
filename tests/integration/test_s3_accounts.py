"""Accounts at S3 that settings do not name: found by all libraries as AWS's own tools find them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from deltaq.client import Client, ConfigurationError
from deltaq.tasks.settings import Settings, load_settings
from deltaq.worker.s3_check import require_s3
from tests.support.bench import Bench
from tests.support.redis import RedisServer
from tests.support.s3 import S3Server

ROWS = pa.table({"n": [1, 2]})
#: By what else an account may be found on the machine of the test.
ELSEWHERE = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")


@pytest.fixture
def settings(
    s3_server: S3Server, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Settings]:
    """Read settings that name a server and no account; there is none elsewhere, either."""
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    lake = f"s3://{s3_server.bucket}/{secrets.token_hex(6)}"
    return lambda: load_settings(
        lake=lake, redis_url=redis_server.url, s3_endpoint=s3_server.endpoint
    )


def by_variables(keys: dict[str, str], folder: Path) -> dict[str, str]:
    return keys


def by_profile(keys: dict[str, str], folder: Path) -> dict[str, str]:
    lines = [f"{name.lower()} = {key}" for name, key in keys.items()]
    file = folder / "credentials"
    file.write_text("\n".join(["[lake]", *lines, ""]))
    return {"AWS_PROFILE": "lake", "AWS_SHARED_CREDENTIALS_FILE": str(file)}


@pytest.mark.parametrize("given", [by_variables, by_profile])
def test_one_account_serves_client_and_worker_alike(
    settings: Callable[[], Settings],
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: Callable[[dict[str, str], Path], dict[str, str]],
) -> None:
    account = s3_server.environment()
    keys = {name: account[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    for name, value in given(keys, tmp_path).items():
        monkeypatch.setenv(name, value)
    chosen = settings()

    require_s3(chosen)
    bench = Bench(chosen)
    with Client(chosen) as client:
        futures = [client.append("t", ROWS), client.append("t", ROWS)]
        bench.committer.drain("t")
        assert {future.result(timeout=10).version for future in futures} == {0}
    bench.close()


def test_a_profile_that_there_is_not_is_named(
    settings: Callable[[], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "lakee")
    chosen = settings()

    with pytest.raises(ConfigurationError, match="lakee"):
        require_s3(chosen)
    with Client(chosen) as client, pytest.raises(ConfigurationError, match="lakee"):
        client.append("t", ROWS)
