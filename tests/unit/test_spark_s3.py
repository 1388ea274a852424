"""What Spark is told about S3."""

from __future__ import annotations

import re

import pytest

from deltaq.tasks.s3 import S3Options
from deltaq.tasks.settings import load_settings
from deltaq.worker.spark_s3 import s3_conf, s3_options
from tests.support.pages import ROOT, rows

S3A = "spark.hadoop.fs.s3a."
PROVIDER = f"{S3A}aws.credentials.provider"


def names_in(conf: dict[str, str]) -> set[str]:
    return {name.removeprefix(S3A) for name in conf if name.startswith(S3A)}


def test_aws_needs_nothing_to_be_said_and_accounts_are_found_as_by_its_tools() -> None:
    conf = s3_conf(S3Options(path_style=False))

    assert conf[PROVIDER].endswith(".DefaultCredentialsProvider")
    assert conf[f"{S3A}path.style.access"] == "false"
    assert conf[f"{S3A}connection.ssl.enabled"] == "true"
    assert not names_in(conf) & {"endpoint", "endpoint.region", "access.key", "secret.key"}


def test_another_server_is_named_with_a_region_that_any_takes() -> None:
    conf = s3_conf(S3Options(endpoint="http://minio:9000"))

    assert conf[f"{S3A}endpoint"] == "http://minio:9000"
    assert conf[f"{S3A}endpoint.region"] == "us-east-1"
    assert conf[f"{S3A}path.style.access"] == "true"
    assert conf[f"{S3A}connection.ssl.enabled"] == "false"
    assert s3_conf(S3Options(endpoint="https://minio"))[f"{S3A}connection.ssl.enabled"] == "true"


@pytest.mark.parametrize(
    ("token", "provider", "keys"),
    [
        (None, "SimpleAWSCredentialsProvider", {"access.key", "secret.key"}),
        (
            "token",
            "TemporaryAWSCredentialsProvider",
            {"access.key", "secret.key", "session.token"},
        ),
    ],
)
def test_keys_that_are_given_are_the_only_ones_that_are_tried(
    token: str | None, provider: str, keys: set[str]
) -> None:
    options = S3Options(
        access_key_id="name", secret_access_key="secret", session_token=token, region="eu-west-1"
    )
    conf = s3_conf(options)

    assert conf[PROVIDER] == f"org.apache.hadoop.fs.s3a.{provider}"
    assert names_in(conf) & {"access.key", "secret.key", "session.token"} == keys
    assert conf[f"{S3A}endpoint.region"] == "eu-west-1"


def test_no_commit_in_s3_is_replaced_however_its_path_is_written() -> None:
    conf = s3_conf(S3Options())

    assert conf["spark.delta.logStore.s3a.impl"] == "deltaq.S3LogStore"
    assert conf["spark.delta.logStore.s3.impl"] == "deltaq.S3LogStore"


def test_each_setting_is_told_to_users_with_a_reason() -> None:
    options = S3Options(
        endpoint="http://minio:9000",
        access_key_id="name",
        secret_access_key="secret",
        session_token="token",
    )
    page = (ROOT / "docs" / "spark.md").read_text()
    table = page.partition("With lake or staging area in S3")[2].partition("\n\nLeft as")[0]

    told = {name for row in rows(table) for name in re.findall(r"`(spark\.[\w.]+)`", row[0])}

    assert told == set(s3_conf(options))


def test_only_a_lake_or_staging_area_in_s3_needs_it() -> None:
    given = {"s3_endpoint": "http://minio:9000"}

    assert s3_options(load_settings(lake="/lake", **given)) is None
    for places in ({"lake": "s3://bucket/l"}, {"lake": "/lake", "staging": "s3://bucket/s"}):
        options = s3_options(load_settings(**places, **given))
        assert options is not None
        assert options.endpoint == "http://minio:9000"
