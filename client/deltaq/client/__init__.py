"""What a program imports: the client, its futures and outcomes, the settings, the errors."""

import importlib
import typing

from deltaq.client.backfill_future import AsyncBackfillFuture, BackfillFuture
from deltaq.client.client import Client
from deltaq.client.completion import as_completed, gather
from deltaq.client.dead_letters import DeadLetter
from deltaq.client.following import Commit
from deltaq.client.future import Future
from deltaq.client.pandas_frames import to_pandas
from deltaq.client.scan import AsyncScan, Scan
from deltaq.client.watch import AsyncWatch, Watch
from deltaq.tasks.errors import (
    ClusterLost,
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
    InvalidSignature,
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
    ResultTooLarge,
    SchemaMismatch,
    StagedDataMissing,
    StagingFull,
    StorageUnavailable,
    TableExists,
    TableNotFound,
    TransientError,
    VersionNotFound,
    VersionNotReached,
)
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.request import Lane
from deltaq.tasks.status import LaneStatus, Retrying, TableStatus

if typing.TYPE_CHECKING:
    from deltaq.client.async_client import AsyncClient
    from deltaq.client.async_future import AsyncFuture
    from deltaq.client.backfill_progress import BackfillProgress, BackfillState, Straggler
    from deltaq.client.manager import DeltaLakeManager
    from deltaq.tasks.manifest import Csv
    from deltaq.tasks.settings import Settings, load_settings

__all__ = [
    "AsyncBackfillFuture",
    "AsyncClient",
    "AsyncFuture",
    "AsyncScan",
    "AsyncWatch",
    "BackfillFuture",
    "BackfillProgress",
    "BackfillState",
    "Client",
    "ClusterLost",
    "Commit",
    "CommitConflict",
    "ConfigurationError",
    "ConstraintViolated",
    "Csv",
    "DeadLetter",
    "DeadLettered",
    "DeltaLakeManager",
    "DeltaqError",
    "DuplicateKeys",
    "EngineDied",
    "EngineRefused",
    "EngineUnavailable",
    "Future",
    "InvalidExpression",
    "InvalidFrame",
    "InvalidRequest",
    "InvalidSignature",
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
    "ResultTooLarge",
    "Retrying",
    "Scan",
    "SchemaMismatch",
    "Settings",
    "StagedDataMissing",
    "StagingFull",
    "State",
    "StorageUnavailable",
    "Straggler",
    "TableExists",
    "TableNotFound",
    "TableStatus",
    "TransientError",
    "VersionNotFound",
    "VersionNotReached",
    "Watch",
    "as_completed",
    "gather",
    "load_settings",
    "to_pandas",
]

#: Names that bring what takes a while to import, with their modules: not before they are asked for.
_LATE = {
    "AsyncClient": "deltaq.client.async_client",
    "AsyncFuture": "deltaq.client.async_future",
    "BackfillProgress": "deltaq.client.backfill_progress",
    "BackfillState": "deltaq.client.backfill_progress",
    "Csv": "deltaq.tasks.manifest",
    "DeltaLakeManager": "deltaq.client.manager",
    "Settings": "deltaq.tasks.settings",
    "Straggler": "deltaq.client.backfill_progress",
    "load_settings": "deltaq.tasks.settings",
}


def __getattr__(name: str) -> typing.Any:
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_LATE]
