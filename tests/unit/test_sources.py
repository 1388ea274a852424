"""Where settings come from, and what is shown of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from deltaq.tasks.masking import masked_url
from deltaq.tasks.settings import Settings
from deltaq.tasks.sources import Sourced, explain_settings


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"DELTAQ_{name.upper()}", raising=False)
    return tmp_path


def explained(**arguments: str) -> dict[str, Sourced]:
    return {setting.name: setting for setting in explain_settings(**arguments)}


def test_values_are_told_as_programs_take_them(place: Path) -> None:
    del place
    told = msgspec.json.decode(msgspec.json.encode([*explained(lake="s3://lake/a").values()]))
    assert {setting["name"]: setting["value"] for setting in told}["lake"] == "s3://lake/a"


def test_each_setting_is_told_with_its_source(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "deltaq.toml").write_text(
        'lake = "in-file"\n'
        "queues = [\n"
        '  "commits",\n'
        "]\n"
        'backfill_sources = ["/a", "/b"]\n'
        "\n"
        "[spark_conf]\n"
        '"spark.sql.shuffle.partitions" = "8"\n'
        'lease_ttl = "no setting, but a key of the table"\n'
    )
    monkeypatch.setenv("DELTAQ_LAKE", "in-variable")
    monkeypatch.setenv("DELTAQ_SPARK_CONF", '{"spark.executor.memory": "2g"}')
    monkeypatch.setenv("DELTAQ_ENGINE", "")

    found = explained(spark_memory="2g")

    assert (found["lake"].text, found["lake"].source) == (f"{place}/in-variable", "DELTAQ_LAKE")
    assert (found["queues"].text, found["queues"].source) == ("commits", "deltaq.toml:2")
    assert found["backfill_sources"].value == ["/a", "/b"]
    assert found["backfill_sources"].text == "/a,/b"
    assert found["spark_memory"].source == "argument"
    assert found["spark_conf"].source == "DELTAQ_SPARK_CONF, deltaq.toml:7"
    assert found["lease_ttl"].source == "default"
    assert found["engine"].source == "default"
    assert list(found) == list(Settings.model_fields)


def test_secrets_of_spark_are_masked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "DELTAQ_SPARK_CONF",
        '{"spark.hadoop.fs.s3a.secret.key": "hidden", "spark.hadoop.fs.s3a.access.key": "hidden",'
        ' "spark.ssl.keyPassword": "hidden", "spark.app.name": "mine"}',
    )

    text = explained(lake="lake")["spark_conf"].text

    assert "hidden" not in text
    assert "spark.app.name=mine" in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:p%40ss@host/0", "redis://:***@host/0"),
        ("rediss://user:pass@host:1/0?ssl_cert_reqs=none", "rediss://user:***@host:1/0?ssl_cert_reqs=none"),
        ("unix://user:pass@/run/r.sock?db=1&password=x", "unix://user:***@/run/r.sock?db=1&password=***"),
        ("redis://host/0?ssl_password=x", "redis://host/0?ssl_password=***"),
        ("redis://user:a@b@host/0", "redis://user:***@host/0"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_passwords(url: str, shown: str) -> None:
    assert masked_url(url) == shown
