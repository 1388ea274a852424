"""What a program imports: the client, its futures and outcomes, the settings, the errors."""

import typing

from deltaq.client.client import Client
from deltaq.client.dead_letters import DeadLetter
from deltaq.client.future import Future
from deltaq.tasks.errors import (
    CommitConflict,
    ConfigurationError,
    ConstraintViolated,
    DeadLettered,
    DeltaqError,
    DuplicateKeys,
    EngineDied,
    EngineRefused,
    EngineUnavailable,
    InvalidExpression,
    InvalidFrame,
    InvalidRequest,
    InvalidTableName,
    LeaseLost,
    OutcomeError,
    OutcomeExpired,
    QueueFull,
    QueueUnavailable,
    RequestCancelled,
    RequestError,
    RequestExpired,
    RequestIdConflict,
    ResultTimeout,
    SchemaMismatch,
    StagedDataMissing,
    StagingFull,
    StorageUnavailable,
    TableNotFound,
    TransientError,
    VersionNotFound,
)
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Lane
from deltaq.tasks.status import LaneStatus, Retrying, TableStatus

if typing.TYPE_CHECKING:
    from deltaq.tasks.settings import Settings, load_settings

__all__ = [
    "Client",
    "CommitConflict",
    "ConfigurationError",
    "ConstraintViolated",
    "DeadLetter",
    "DeadLettered",
    "DeltaqError",
    "DuplicateKeys",
    "EngineDied",
    "EngineRefused",
    "EngineUnavailable",
    "Future",
    "InvalidExpression",
    "InvalidFrame",
    "InvalidRequest",
    "InvalidTableName",
    "Lane",
    "LaneStatus",
    "LeaseLost",
    "Outcome",
    "OutcomeError",
    "OutcomeExpired",
    "QueueFull",
    "QueueUnavailable",
    "RequestCancelled",
    "RequestError",
    "RequestExpired",
    "RequestIdConflict",
    "ResultTimeout",
    "Retrying",
    "SchemaMismatch",
    "Settings",
    "StagedDataMissing",
    "StagingFull",
    "State",
    "StorageUnavailable",
    "TableNotFound",
    "TableStatus",
    "TransientError",
    "VersionNotFound",
    "load_settings",
]

#: Names that bring pydantic, 0.1 s: not before somebody asks for them.
_LATE = ("Settings", "load_settings")


def __getattr__(name: str) -> typing.Any:
    if name in _LATE:
        from deltaq.tasks import settings

        return getattr(settings, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_LATE]
