"""The settings of deltaq and the one place that reads them.

Rising priority: defaults, ``deltaq.toml``, ``DELTAQ_*`` in the environment (of secrets also
``DELTAQ_*_FILE``), arguments.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from deltaq.tasks.errors import ConfigurationError
from deltaq.tasks.logs import LogFormat, LogLevel
from deltaq.tasks.masking import masked_values
from deltaq.tasks.policy import HOURS
from deltaq.tasks.redis_url import SCHEMES, for_celery, with_certificates, with_password
from deltaq.tasks.request import SAFE_RETENTION_HOURS
from deltaq.tasks.setting_errors import unreadable, wrong_values
from deltaq.tasks.settings_spark import SparkSettings
from deltaq.tasks.settings_storage import StorageSettings
from deltaq.tasks.suggest import did_you_mean
from deltaq.tasks.variable_files import VariableFiles, file_variable, variable_value

#: In the working directory; another file is named by DELTAQ_CONFIG.
CONFIG_FILE = "deltaq.toml"
_CONFIG_VARIABLE = "DELTAQ_CONFIG"
_PREFIX = "DELTAQ_"

MiB = 1 << 20

QueueName = Literal["commits", "bulk", "reads", "maintenance"]

#: May be given as files, too; spark_conf holds the keys of storage.
SECRETS = (
    *("redis_url", "redis_password", "broker_url", "signing_key", "signing_key_old"),
    *("flower_auth", "spark_conf", "s3_secret_access_key", "s3_session_token"),
)


class Settings(SparkSettings, StorageSettings):
    """Everything that can be set. Durations are seconds, sizes bytes, unless a name says so.

    Build one with :func:`load_settings`, which turns mistakes into ``ConfigurationError``.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        hide_input_in_errors=True,  # there may be a password in it
    )

    redis_url: SecretStr = Field(
        SecretStr("redis://localhost:6379/0"), description="Redis that holds the queue."
    )
    redis_password: SecretStr | None = Field(
        None, description="Its password, when redis_url has none."
    )
    broker_url: SecretStr | None = Field(
        None, description="Celery's broker, when it is not the queue's Redis."
    )
    redis_ca_file: Path | None = Field(
        None,
        description="Certificates of those who sign that of a rediss:// server. Default: "
        "the system's.",
    )
    redis_cert_file: Path | None = Field(
        None, description="Certificate to show to a rediss:// server that asks for one."
    )
    redis_key_file: Path | None = Field(None, description="Private key of redis_cert_file.")
    signing_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Clients sign requests with it, and workers that have it apply no others.",
    )
    signing_key_old: SecretStr | None = Field(
        None, min_length=32, description="What workers take besides, while the key is replaced."
    )
    redis_timeout: float = Field(5.0, gt=0, description="How long Redis may take to answer.")
    outcome_ttl: int = Field(7 * 86400, gt=0, description="How long outcomes are kept.")
    inbox_max_requests: int = Field(
        250_000, gt=0, description="Requests that may wait in one lane of a table."
    )
    inbox_max_bytes: int = Field(
        64 * 1024 * MiB, gt=0, description="Staged bytes that may wait in one lane of a table."
    )
    staging_min_free_bytes: int = Field(
        256 * MiB, ge=0, description="Room that staging leaves on its disk, for the workers."
    )
    spool: bool = Field(False, description="Hold submissions while Redis is down.")
    spool_max_requests: int = Field(
        100_000, gt=0, description="Requests that one client holds while Redis is down."
    )
    user: str | None = Field(
        None,
        pattern=r"^[^\x00-\x1f\x7f]{1,100}$",
        description="Who submits, as history tells. Default: account and machine, as 'ann@web1'.",
    )
    lease_ttl: float = Field(5.0, ge=0.5, description="A silent committer is replaced after this.")
    time_slice: float = Field(5.0, gt=0, description="A table is handed back after this.")
    sweep_interval: float = Field(1.0, gt=0, description="How often forgotten tables are rung.")
    retry_seconds: float = Field(
        30.0, gt=0, description="Longest pause between two tries of a commit."
    )
    group_max_requests: int = Field(500, gt=0, description="Requests in one commit.")
    group_max_bytes: int = Field(256 * MiB, gt=0, description="Staged bytes in one commit.")
    dead_letter_ttl: int = Field(
        30 * 86400, ge=0, description="How long dead letters are kept; 0 for ever."
    )
    read_ttl: float = Field(3600.0, gt=0, description="How long results of reads are kept.")
    concurrency: int = Field(4, gt=0, le=256, description="Tasks that one worker runs at once.")
    memory_high: float = Field(
        0.85, gt=0, le=1, description="Share of its memory above which commits are smaller."
    )
    maintenance_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Share of the time that maintenance takes of a table that is written to.",
    )
    policy_compact_files: int = Field(
        32, ge=0, description="Small files in a partition above which it is compacted; 0 never."
    )
    policy_vacuum_hours: int = Field(
        0,
        ge=0,
        description="Age of files, no longer needed, that are removed once a day, from 168; 0 never.",
    )
    policy_checkpoint_commits: int = Field(
        20, gt=0, description="Commits of a table after which a checkpoint is written."
    )
    policy_hours: str | None = Field(
        None,
        pattern=rf"^{HOURS}$",
        description="When maintenance nobody asked for may begin, as 22:00-06:00, UTC. "
        "Default: always.",
    )
    stop_timeout: float = Field(
        45.0, gt=0, description="A worker that was told to stop does so at once after this."
    )
    queues: Annotated[tuple[QueueName, ...], NoDecode] = Field(
        ("commits", "bulk", "reads", "maintenance"),
        min_length=1,
        description="What a worker serves; in the environment, names with commas between them.",
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of /metrics, /healthz and /readyz; 0 for any that is free. Default: none.",
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Address they are served on; 0.0.0.0 for all of the machine."
    )
    metrics_tables: int = Field(
        50, ge=0, le=10_000, description="Tables that metrics name; the others are summed up."
    )
    events_per_second: int = Field(
        3000, ge=0, description="Task events that a worker sends while Flower listens; 0 for none."
    )
    flower_auth: SecretStr | None = Field(
        None, description="Name and password that Flower asks for, as 'name:password'."
    )
    engine: Literal["auto", "native", "spark"] = Field(
        "auto", description="What performs requests; auto chooses for each."
    )
    native_max_bytes: int = Field(
        512 * MiB, gt=0, description="Work that touches more goes to Spark, with engine auto."
    )
    tracing: bool = Field(False, description="Make spans of OpenTelemetry; needs deltaq[otel].")
    log_level: LogLevel = Field("INFO", description="What a worker logs: lines of at least this.")
    log_format: LogFormat = Field(
        "auto", description="Lines of json, or human; auto is human in a terminal."
    )

    @pydantic.field_validator(
        "jars",
        "ivy_settings",
        "redis_ca_file",
        "redis_cert_file",
        "redis_key_file",
    )
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    @pydantic.field_validator("queues", mode="before")
    @classmethod
    def _names(cls, queues: object) -> object:
        return [q.strip() for q in queues.split(",")] if isinstance(queues, str) else queues

    @pydantic.field_validator("policy_vacuum_hours")
    @classmethod
    def _safe(cls, hours: int) -> int:
        if 0 < hours < SAFE_RETENTION_HOURS:
            raise ValueError(f"at least {SAFE_RETENTION_HOURS}, or 0")
        return hours

    @pydantic.field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, url: SecretStr) -> SecretStr:
        if urlsplit(url.get_secret_value()).scheme not in SCHEMES:
            raise ValueError(f"it must begin with one of {'://, '.join(SCHEMES)}://")
        return url

    @pydantic.field_validator("flower_auth")
    @classmethod
    def _both(cls, auth: SecretStr | None) -> SecretStr | None:
        text = auth.get_secret_value() if auth else "-:-"
        if not (text.isascii() and all(text.partition(":"))):
            raise ValueError("it must be a name and a password in ASCII, with a colon between them")
        return auth

    @pydantic.field_validator("signing_key_old")
    @classmethod
    def _beside_another(cls, old: SecretStr | None, info: pydantic.ValidationInfo) -> Any:
        if old is not None and info.data.get("signing_key") is None:
            raise ValueError("it is for while signing_key is replaced, and that is not set")
        return old

    @pydantic.field_validator("redis_ca_file", "redis_cert_file", "redis_key_file")
    @classmethod
    def _of_tls(cls, path: Path | None, info: pydantic.ValidationInfo) -> Path | None:
        if path is None:
            return None
        urls = [info.data.get("redis_url"), info.data.get("broker_url")]
        schemes = {urlsplit(url.get_secret_value()).scheme for url in urls if url}
        if "redis" in schemes and "rediss" not in schemes:  # a Unix socket needs none of it
            raise ValueError("it is for an encrypted connection: redis_url begins with rediss://")
        path.open().close()  # the errors of ssl do not name the file
        return path

    def __repr_args__(self) -> Any:
        shown = dict(super().__repr_args__())
        return {**shown, "spark_conf": masked_values(self.spark_conf)}.items()

    @property
    def queue_url(self) -> str:
        """The URL of the queue's Redis, with its password and its certificates: never log it."""
        password = self.redis_password.get_secret_value() if self.redis_password else None
        return self._certified(with_password(self.redis_url.get_secret_value(), password))

    @property
    def celery_broker_url(self) -> str:
        """The broker's URL, password included: never log it."""
        if self.broker_url is None:
            return for_celery(self.queue_url)
        return for_celery(self._certified(self.broker_url.get_secret_value()))

    def _certified(self, url: str) -> str:
        return with_certificates(
            url, ca=self.redis_ca_file, cert=self.redis_cert_file, key=self.redis_key_file
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, highest priority first."""
        files = VariableFiles(settings_cls, SECRETS)
        return (
            init_settings,
            env_settings,
            files,
            TomlConfigSettingsSource(settings_cls, config_file()),
        )


def config_file() -> Path:
    """Locate the file that is read, whether it is there or not."""
    return Path(os.environ.get(_CONFIG_VARIABLE, CONFIG_FILE))


def variable_of(name: str) -> str:
    """Name the environment variable of a setting."""
    return _PREFIX + name.upper()


def load_settings(**arguments: Any) -> Settings:
    """Read the settings; arguments that are None count as not given.

    Args:
        arguments: Settings that go before the environment and ``deltaq.toml``.

    Raises:
        ConfigurationError: A setting is unknown, missing or impossible; it is named, with
            the place where it was set.

    Examples:
        >>> load_settings(lake="./lake", redis_timeout=2).redis_timeout
        2.0
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    _refuse_unknown_variables()
    try:
        return Settings(**given)
    except pydantic.ValidationError as exc:
        raise wrong_values(exc, lambda name: _place(name, given), Settings.model_fields) from exc
    except OSError as exc:
        raise ConfigurationError(f"{exc.filename}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:  # TOML that does not parse, JSON in a variable, a secret's file
        raise unreadable(exc, lambda name: _place(name, given)) from exc


def _refuse_unknown_variables() -> None:
    known = {variable_of(name) for name in Settings.model_fields} | {_CONFIG_VARIABLE}
    known |= {file_variable(variable_of(name)) for name in SECRETS}
    unknown = sorted(v for v in os.environ if v.startswith(_PREFIX) and v.upper() not in known)
    if unknown:
        told = ", ".join(f"{v}{did_you_mean(v, known)}" for v in unknown)
        raise ConfigurationError(
            f"unknown setting in the environment: {told}",
            details={"settings": unknown},
        )


def _place(name: str, arguments: dict[str, Any]) -> str:
    variable = variable_of(name)
    if name in arguments:
        return "argument"
    if variable_value(variable) is not None:
        return variable
    if name in SECRETS and variable_value(file_variable(variable)) is not None:
        return file_variable(variable)
    file = config_file()
    return str(file) if file.exists() else "not set"
