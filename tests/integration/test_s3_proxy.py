"""The tests' own S3 servers, and the proxy before one, do what they are asked to."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.s3 import S3Server
from tests.support.s3_faults import REFUSALS, SLOW_DOWN, Cut, Refusal, is_conditional_put
from tests.support.s3_proxy import S3Proxy


@pytest.fixture
def client(s3_server: S3Server, s3_proxy: S3Proxy) -> Any:
    """A client that tries once, through the proxy."""
    return s3_server.client(s3_proxy.endpoint)


def put(client: Any, key: str, body: bytes = b"", **conditions: str) -> None:
    client.put_object(Bucket=S3Server.bucket, Key=key, Body=body, **conditions)


def get(client: Any, key: str) -> bytes:
    return bytes(client.get_object(Bucket=S3Server.bucket, Key=key)["Body"].read())


@pytest.fixture(params=["s3_server", "moto_server"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each of both servers."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


def test_an_object_that_may_not_be_replaced_is_not(server: S3Server) -> None:
    put(server.client(), "once", b"first", IfNoneMatch="*")

    with pytest.raises(ClientError, match="PreconditionFailed"):
        put(server.client(), "once", b"second", IfNoneMatch="*")

    assert get(server.client(), "once") == b"first"


def test_what_was_put_is_there_after_a_crash_of_the_server() -> None:
    with S3Server() as server:
        put(server.client(), "a/b", b"content")
        server.kill()
        server.start()

        assert get(server.client(), "a/b") == b"content"


def test_calls_pass_whole_and_are_counted(client: Any, s3_proxy: S3Proxy) -> None:
    large = bytes(range(256)) * 20_000

    put(client, "counted", large)

    assert get(client, "counted") == large
    assert s3_proxy.round_trips() == {"PUT": 1, "GET": 1}
    assert s3_proxy.calls[0].path == "/lake/counted"
    s3_proxy.forget()
    assert s3_proxy.round_trips() == {}


def test_every_call_is_late(client: Any, s3_proxy: S3Proxy) -> None:
    s3_proxy.latency = 0.05
    began = time.monotonic()

    put(client, "late")

    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
def test_a_refusal_is_what_its_caller_hears(
    client: Any, s3_proxy: S3Proxy, refusal: Refusal
) -> None:
    s3_proxy.inflict(refusal, only=is_conditional_put)
    put(client, f"{refusal.code}-may-be-replaced")

    with pytest.raises(ClientError) as caught:
        put(client, refusal.code, IfNoneMatch="*")

    assert caught.value.response["Error"]["Code"] == refusal.code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == refusal.status
    s3_proxy.heal()
    put(client, refusal.code, IfNoneMatch="*")


def test_a_part_of_the_calls_is_refused(client: Any, s3_proxy: S3Proxy) -> None:
    s3_proxy.inflict(SLOW_DOWN, every=2, times=1)

    put(client, "spared")
    with pytest.raises(ClientError, match="SlowDown"):
        put(client, "refused")
    for _ in range(3):
        put(client, "again")


@pytest.mark.parametrize(
    ("where", "there"),
    [(Cut.BEFORE, False), (Cut.UPLOAD, False), (Cut.ANSWER, True)],
)
def test_a_connection_breaks_where_it_should(
    client: Any, s3_server: S3Server, s3_proxy: S3Proxy, where: Cut, there: bool
) -> None:
    s3_proxy.inflict(where, times=1)

    with pytest.raises(BotoCoreError):
        put(client, f"cut-{where}", bytes(1_000_000))

    assert s3_server.file(f"cut-{where}").exists() is there
    put(client, f"cut-{where}")


def test_a_connection_breaks_in_the_middle_of_an_answer(client: Any, s3_proxy: S3Proxy) -> None:
    put(client, "whole", bytes(1_000_000))
    s3_proxy.inflict(Cut.DOWNLOAD, times=1)

    with pytest.raises(BotoCoreError):
        get(client, "whole")

    assert get(client, "whole") == bytes(1_000_000)


def test_a_server_may_ignore_that_an_object_must_not_be_replaced(
    client: Any, s3_proxy: S3Proxy
) -> None:
    s3_proxy.ignores_conditions = True

    for body in (b"first", b"second"):
        put(client, "ignored", body, IfNoneMatch="*")

    assert get(client, "ignored") == b"second"
