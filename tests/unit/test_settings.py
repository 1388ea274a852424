"""Where settings come from, and how mistakes in them are told."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from deltaq.tasks.errors import ConfigurationError
from deltaq.tasks.s3 import Bucket, S3Options
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import load_settings


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DELTAQ_LAKE", raising=False)


def test_arguments_go_before_the_environment_before_the_file_before_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "deltaq.toml").write_text("lake = '/file'\nlease_ttl = 3\ntime_slice = 3\n")
    monkeypatch.setenv("DELTAQ_LEASE_TTL", "4")
    monkeypatch.setenv("DELTAQ_TIME_SLICE", "4")
    settings = load_settings(time_slice=6, sweep_interval=None)
    assert settings.lake == Path("/file")
    assert settings.lease_ttl == 4
    assert settings.time_slice == 6
    assert settings.sweep_interval == 1


def test_another_file_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("lake = '/other'\n")
    monkeypatch.setenv("DELTAQ_CONFIG", str(tmp_path / "other.toml"))
    assert load_settings().lake == Path("/other")


def test_the_staging_area_is_in_the_lake_unless_set() -> None:
    assert load_settings(lake="/lake").staging_root == Path("/lake/.deltaq")
    assert load_settings(lake="/lake", staging="/stage").staging_root == Path("/stage")


def test_paths_become_absolute(tmp_path: Path) -> None:
    assert load_settings(lake="lake").lake == tmp_path / "lake"


def test_queues_are_names_with_commas_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTAQ_QUEUES", "commits, reads")
    assert load_settings(lake="/lake").queues == ("commits", "reads")


def test_folders_to_load_from_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DELTAQ_BACKFILL_SOURCES", "incoming, /data/../history, s3://bucket/in")
    folders = load_settings(lake="/lake").backfill_sources
    assert folders[:2] == (tmp_path / "incoming", Path("/data/../history"))
    assert str(folders[2]) == "s3://bucket/in"
    with pytest.raises(ConfigurationError, match="backfill_sources"):
        load_settings(lake="/lake", backfill_sources=["ftp://host/in"])
    with pytest.raises(ConfigurationError, match="it must be a list of folders"):
        load_settings(lake="/lake", backfill_sources=7)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("redis://host:1/2", "redis://host:1/2"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
    ],
)
def test_the_broker_is_the_queues_redis_unless_set(given: str, expected: str) -> None:
    assert load_settings(lake="/lake", redis_url=given).celery_broker_url == expected
    other = load_settings(lake="/lake", redis_url="redis://x", broker_url=given)
    assert other.celery_broker_url == expected


def test_a_password_is_not_shown() -> None:
    settings = load_settings(lake="/lake", redis_url="redis://:opensesame@host")
    assert "opensesame" not in repr(settings)
    assert "opensesame" not in str(settings.model_dump())


def test_a_missing_setting_is_named_with_where_to_set_it() -> None:
    with pytest.raises(ConfigurationError, match=r"lake.*DELTAQ_LAKE.*deltaq.toml") as caught:
        load_settings()
    assert caught.value.details == {"settings": ["lake"]}


def test_mistakes_are_named_with_where_they_were_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"lease_ttl \(argument\)"):
        load_settings(lake="/lake", lease_ttl=0)
    with pytest.raises(ConfigurationError, match=r"unknown setting lease \(argument\)"):
        load_settings(lake="/lake", lease=1)
    for lake, told in {
        "gs://bucket/lake": "gs:// is not supported",
        "s3:/bucket/lake": "is written s3://bucket/folder",
        "s3://Bucket/lake": "'Bucket' cannot be the name of a bucket",
        "s3://bucket/../lake": "letters, digits and",
    }.items():
        with pytest.raises(ConfigurationError, match=re.escape(told)):
            load_settings(lake=lake)
    with pytest.raises(ConfigurationError, match=r"_key \(not set\): .*come together"):
        load_settings(lake="s3://bucket", s3_access_key_id="a")
    monkeypatch.setenv("DELTAQ_TIME_SLICE", "soon")
    with pytest.raises(ConfigurationError, match=r"time_slice \(DELTAQ_TIME_SLICE\)"):
        load_settings(lake="/lake")
    monkeypatch.delenv("DELTAQ_TIME_SLICE")
    (tmp_path / "deltaq.toml").write_text("laek = '/lake'\n")
    with pytest.raises(ConfigurationError, match=r"unknown setting laek \(deltaq.toml\)"):
        load_settings(lake="/lake")


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("policy_hours", "22-6", "two times of day in UTC, as '22:00-06:00'"),
        ("policy_vacuum_hours", "3", "at least 168, or 0"),
        ("concurrency", "many", "it must be a whole number"),
        ("concurrency", "0", "it must be greater than 0"),
        (
            "engine",
            "natve",
            "it must be 'auto', 'native' or 'spark', not 'natve' (did you mean 'native'?)",
        ),
        ("lease_ttl", "soon", "it must be a number"),
        (
            "queues",
            "comits",
            "it must be 'commits', 'bulk', 'reads' or 'maintenance', not 'comits'",
        ),
        ("spool", "perhaps", "it must be true or false"),
        ("s3_endpoint", "minio:9000", "it must be the URL of a server, as 'http://minio:9000'"),
        ("s3_region", "Frankfurt", "it must be the name of a region, as 'eu-central-1'"),
        ("signing_key", "short", "it must have 32 characters or more"),
        ("spark_conf", "{", "it must be JSON: Expecting property name"),
        ("spark_memory", "lots", "it must be a number of megabytes or gigabytes"),
        ("user", "ann\nbob", "it must be 1 to 100 characters in one line"),
    ],
)
def test_a_mistake_is_told_once_and_without_pydantics_words_for_programmers(
    monkeypatch: pytest.MonkeyPatch, name: str, given: str, told: str
) -> None:
    variable = f"DELTAQ_{name.upper()}"
    monkeypatch.setenv(variable, given)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(lake="/lake")
    message = str(caught.value)
    assert message.startswith(f"{name} ({variable}): ")
    assert told in message
    assert message.count(variable) == 1
    strange = ("Value error", "Input", "pattern", "validation", "source", "parse")
    assert not any(word in message for word in strange)
    assert caught.value.details == {"settings": [name]}


def test_an_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTAQ_LAEK", "/lake")
    with pytest.raises(ConfigurationError, match="DELTAQ_LAEK"):
        load_settings(lake="/lake")


def test_a_file_that_is_no_toml_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "deltaq.toml").write_text("lake = ")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(lake="/lake")


def test_s3_is_found_by_aws_s_own_variables_unless_settings_say_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def options(**given: Any) -> S3Options:
        lake = load_settings(lake="s3://bucket/lake", **given).lake
        assert isinstance(lake, S3Path)
        return lake.bucket.options

    assert options() == S3Options(path_style=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000/")
    assert options() == S3Options(endpoint="http://minio:9000", region="eu-west-1")
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    given = options(s3_endpoint="https://s3.example", s3_path_style=False)
    assert given == S3Options(endpoint="https://s3.example", region="eu-west-2", path_style=False)
    for told in (given.for_object_store("b"), Bucket("b", given).delta_options):
        assert told["aws_endpoint"] == "https://b.s3.example"
        assert told["aws_region"] == "eu-west-2"
    with pytest.raises(ConfigurationError, match="no bucket can be put before"):
        options(s3_endpoint="http://10.0.0.1:9000", s3_path_style=False)


def test_a_lake_in_s3_without_its_libraries_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)  # as if it were not installed
    with pytest.raises(ConfigurationError, match=r"lake \(argument\): .*'deltaq\[s3\]'"):
        load_settings(lake="s3://bucket/lake")
    assert load_settings(lake="/lake").lake == Path("/lake")
