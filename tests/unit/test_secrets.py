"""Secrets: where they may be given, and where they are not shown."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from deltaq.tasks.errors import ConfigurationError
from deltaq.tasks.redis_url import for_celery, with_certificates, with_password
from deltaq.tasks.settings import SECRETS, load_settings, variable_of
from deltaq.tasks.sources import explain_settings
from deltaq.worker.cli import _without_secrets
from deltaq.worker.system import System

#: Of the wrong type for any of them; a traceback shows the line that names it.
_HIDDEN = ["hidden"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DELTAQ_LAKE", "/lake")


def _give(patch: pytest.MonkeyPatch, name: str, text: str) -> Path:
    file = Path(name).absolute()
    file.write_text(text)
    patch.setenv(f"{variable_of(name)}_FILE", str(file))
    return file


def test_secrets_may_be_in_files_that_variables_name(monkeypatch: pytest.MonkeyPatch) -> None:
    _give(monkeypatch, "redis_url", "rediss://worker@queue.example:6380/0\n")
    _give(monkeypatch, "redis_password", "s3cret/@:")
    _give(monkeypatch, "spark_conf", '{"spark.hadoop.fs.s3a.secret.key": "abc"}')
    settings = load_settings()
    assert settings.queue_url == (
        "rediss://worker:s3cret%2F%40%3A@queue.example:6380/0?ssl_cert_reqs=required"
    )
    assert settings.celery_broker_url == settings.queue_url
    assert settings.spark_conf == {"spark.hadoop.fs.s3a.secret.key": "abc"}
    shown = {setting.name: setting for setting in explain_settings()}
    assert shown["redis_password"].value == "***"
    assert shown["redis_password"].source == "DELTAQ_REDIS_PASSWORD_FILE"
    assert "abc" not in str(shown)
    assert "s3cret" not in str(shown)


def test_a_secret_that_is_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _give(monkeypatch, "redis_password", "one")
    monkeypatch.setenv("DELTAQ_REDIS_PASSWORD", "another")
    with pytest.raises(ConfigurationError, match="DELTAQ_REDIS_PASSWORD_FILE are both set"):
        load_settings()


def test_what_is_wrong_with_a_file_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _give(monkeypatch, "redis_url", "http://queue.example")
    with pytest.raises(ConfigurationError, match=r"redis_url \(DELTAQ_REDIS_URL_FILE\)"):
        load_settings()
    monkeypatch.setenv("DELTAQ_REDIS_URL_FILE", "/nowhere")
    with pytest.raises(
        ConfigurationError,
        match=r"redis_url \(DELTAQ_REDIS_URL_FILE\): /nowhere cannot be read: No such file",
    ):
        load_settings()
    monkeypatch.setenv("DELTAQ_REDIS_URL_FILE", "/dev/zero")
    with pytest.raises(ConfigurationError, match="/dev/zero cannot be read: more than"):
        load_settings()


def test_what_is_no_secret_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTAQ_LEASE_TTL_FILE", "/run/secrets/ttl")
    with pytest.raises(ConfigurationError, match="DELTAQ_LEASE_TTL_FILE"):
        load_settings()


def test_neither_settings_nor_errors_show_a_secret() -> None:
    conf = {"spark.hadoop.fs.s3a.secret.key": "hidden", "spark.ui.port": "1"}
    settings = load_settings(
        redis_url="redis://:hidden@host", redis_password="hidden", spark_conf=conf
    )
    for shown in (repr(settings), str(settings), str(explain_settings())):
        assert "hidden" not in shown
    assert "spark.ui.port" in repr(settings)
    for name in SECRETS:
        with pytest.raises(ConfigurationError) as caught:
            load_settings(**{name: _HIDDEN})
        assert "hidden" not in "".join(traceback.format_exception(caught.value))


def test_files_of_tls_are_for_encrypted_connections(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    with pytest.raises(ConfigurationError, match=r"redis_ca_file .*rediss://"):
        load_settings(redis_url="redis://host", redis_ca_file=file)
    with pytest.raises(ConfigurationError, match=r"nowhere\.pem: cannot be read"):
        load_settings(redis_url="rediss://host", redis_ca_file=tmp_path / "nowhere.pem")
    queue = load_settings(redis_url="rediss://host/1", redis_ca_file=file).queue_url
    assert queue == f"rediss://host/1?ssl_cert_reqs=required&ssl_ca_certs={file}"


def test_a_private_redis_asks_for_no_password_of_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DELTAQ_REDIS_PASSWORD", "of-another")
    _give(monkeypatch, "signing_key", "k" * 40)
    (tmp_path / "ca.crt").touch()
    monkeypatch.setenv("DELTAQ_REDIS_CA_FILE", str(tmp_path / "ca.crt"))
    system = System(str(tmp_path), output=None, settings={})
    try:
        assert system.settings.queue_url == system.redis.url
        assert "DELTAQ_REDIS_PASSWORD" not in system.env
        assert system.env["DELTAQ_SIGNING_KEY"] == "k" * 40  # for the workers
        assert "k" * 40 not in str(_without_secrets(system.env))
        assert "DELTAQ_REDIS_URL" in _without_secrets(system.env)
        assert Path(_without_secrets(system.env)["DELTAQ_SIGNING_KEY_FILE"]).is_absolute()
    finally:
        system.stop()


def test_a_url_keeps_what_it_says_itself() -> None:
    assert with_password("redis://user:own@host/1", "other") == "redis://user:own@host/1"
    assert with_password("redis://host:1/2?a=b", "p") == "redis://:p@host:1/2?a=b"
    assert with_password("redis://user@host", "p w") == "redis://user:p%20w@host"
    assert with_password("unix:///run/s?db=1", "p") == "unix://:p@/run/s?db=1"
    files = {"ca": Path("/ca"), "cert": None, "key": None}
    assert with_certificates("redis://host", **files) == "redis://host"
    own = "rediss://host?ssl_ca_certs=%2Fown&ssl_cert_reqs=none"
    assert with_certificates(own, **files) == "rediss://host?ssl_cert_reqs=none&ssl_ca_certs=/own"
    assert for_celery("unix://:p@/run/s?db=1") == "redis+socket://:p@/run/s?virtual_host=1"
