"""Every error that deltaq raises, as one small tree.

::

    DeltaqError              code, retryable, request_id, table, details
      ConfigurationError     a setting is missing, unknown or contradictory
      RequestError           the request is wrong; again, it fails again
        InvalidRequest, InvalidTableName, InvalidFrame, InvalidExpression
        DuplicateKeys, SchemaMismatch, ConstraintViolated
        TableNotFound, TableExists, VersionNotFound, StagedDataMissing
        RequestIdConflict, EngineRefused, ResultTooLarge, InvalidSignature
      TransientError         retryable: again, it may succeed
        QueueUnavailable, QueueFull
        EngineUnavailable
          EngineDied         while it worked for this request
          ClusterLost        it has no executors, or took them away
        StorageUnavailable
          StagingFull        the staging area's disk has no room
        LeaseLost, CommitConflict
        VersionNotReached    the table has not come to it in time
      OutcomeError           what else a Future can say
        ResultTimeout        also a TimeoutError; the request goes on
        RequestCancelled     also a concurrent.futures.CancelledError
        RequestExpired, OutcomeExpired, DeadLettered

A retry policy reads ``retryable`` on the class and nothing else. No exception crosses the
wire: what does, and becomes the same type at the caller, is in ``error_info.py``.
"""

from __future__ import annotations

import concurrent.futures
from typing import Any, ClassVar


class DeltaqError(Exception):
    """The root of all errors of deltaq.

    Args:
        message: What was wrong, where, and what to do about it.
        request_id: The request it concerns, when there is one.
        table: The table it concerns, when there is one.
        details: Facts for programs (names, numbers); JSON values only.

    Examples:
        >>> try:
        ...     rows = client.read("pirces").result(timeout=30)
        ... except DeltaqError as error:
        ...     print(error)
        ...     print(error.code, error.retryable, error.table)
        there is no table pirces in the lake (did you mean 'prices'?)
        table_not_found False pirces
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        request_id: str | None = None,
        table: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        self.table = table
        self.details = details or {}

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the class with the message alone and lose the rest.
        return _rebuild, (type(self), self.message, self.request_id, self.table, self.details)


class ConfigurationError(DeltaqError):
    """A setting is missing, unknown, impossible, or contradicts another; it is named.

    Examples:
        >>> Client(lak="./lake")
        Traceback (most recent call last):
        deltaq.tasks.errors.ConfigurationError: unknown setting lak (argument) (did you mean 'lake'?)
    """

    code = "configuration"


class RequestError(DeltaqError):
    """The request itself is wrong: sent again unchanged, it fails again."""

    code = "request"


class InvalidRequest(RequestError):
    """The arguments do not make a request, or its wire form cannot be understood."""

    code = "invalid_request"


class InvalidTableName(RequestError):
    """The name is not ``[A-Za-z0-9_][A-Za-z0-9_.-]*`` with at most 128 characters."""

    code = "invalid_table_name"


class InvalidFrame(RequestError):
    """The frame cannot become rows of a Delta table: names, types or values are unfit."""

    code = "invalid_frame"


class InvalidExpression(RequestError):
    """A ``where``, ``delete_when`` or column expression does not parse or resolve."""

    code = "invalid_expression"


class DuplicateKeys(RequestError):
    """Two rows of one merge have the same keys; nothing of it was written.

    Examples:
        >>> twice = pd.DataFrame({"symbol": ["IBM", "IBM"], "price": [101.5, 102.0]})
        >>> future = client.merge("prices", twice, keys="symbol")
        >>> future.exception(timeout=30).details["keys"]
        [{'symbol': 'IBM'}]
    """

    code = "duplicate_keys"


class SchemaMismatch(RequestError):
    """Columns or types do not fit the table without loss; nothing was written.

    Examples:
        >>> future = client.append("prices", pd.DataFrame({"symbol": ["IBM"], "prise": [101.5]}))
        >>> future.result(timeout=30)
        Traceback (most recent call last):
        deltaq.tasks.errors.SchemaMismatch: ...'prise' is not in it (did you mean 'price'?)...
    """

    code = "schema_mismatch"


class ConstraintViolated(RequestError):
    """A row breaks a rule of the table or the overwrite's ``where``; nothing was written."""

    code = "constraint_violated"


class TableNotFound(RequestError):
    """There is no Delta table of that name in the lake."""

    code = "table_not_found"


class TableExists(RequestError):
    """There is a Delta table of that name already; nothing was changed."""

    code = "table_exists"


class VersionNotFound(RequestError):
    """The table has no such version or timestamp, or no longer keeps it.

    Examples:
        >>> future = client.read("prices", version=9)
        >>> future.exception(timeout=30).details
        {'oldest': 0, 'newest': 0}
    """

    code = "version_not_found"


class StagedDataMissing(RequestError):
    """The staged file of a request is gone or unreadable, so it cannot be applied."""

    code = "staged_data_missing"


class RequestIdConflict(RequestError):
    """The request id was used before, for a request with other content."""

    code = "request_id_conflict"


class EngineRefused(RequestError):
    """The engine that the request or the worker insists on cannot do this."""

    code = "engine_refused"


class ResultTooLarge(RequestError):
    """The result has more rows or bytes than the call allows; nothing of it was kept."""

    code = "result_too_large"


class InvalidSignature(RequestError):
    """Workers take what is signed with their key, and this is not; nothing was applied."""

    code = "invalid_signature"


class TransientError(DeltaqError):
    """Nothing is wrong with the request: tried again, it may succeed."""

    code = "transient"
    retryable = True


class QueueUnavailable(TransientError):
    """Redis did not answer in time; a staged file is kept and named in ``details``."""

    code = "queue_unavailable"


class QueueFull(TransientError):
    """The table's inbox, or Redis, is at its limit; nothing was queued."""

    code = "queue_full"


class StorageUnavailable(TransientError):
    """The lake or the staging area cannot be read or written now."""

    code = "storage_unavailable"


class StagingFull(StorageUnavailable):
    """The staging area's disk has too little room; nothing was left behind."""

    code = "staging_full"


class EngineUnavailable(TransientError):
    """The engine is not running (yet)."""

    code = "engine_unavailable"


class EngineDied(EngineUnavailable):
    """The engine ended while it worked for this request; it may have been the cause."""

    code = "engine_died"


class ClusterLost(EngineUnavailable):
    """The Spark cluster gives no executors, or ended Spark; no request is the cause."""

    code = "cluster_lost"


class LeaseLost(TransientError):
    """The table's lease went to another worker; the work goes on there."""

    code = "lease_lost"


class CommitConflict(TransientError):
    """Another writer committed to the table first."""

    code = "commit_conflict"


class VersionNotReached(TransientError):
    """The table did not come to the version within the time; both are in ``details``."""

    code = "version_not_reached"


class OutcomeError(DeltaqError):
    """What a Future can say besides the failure of its request."""

    code = "outcome"


class ResultTimeout(OutcomeError, TimeoutError):
    """The wait ended first; the request goes on and can be asked for again by its id.

    Examples:
        >>> future = client.append("prices", frame)
        >>> try:
        ...     outcome = future.result(timeout=0)
        ... except ResultTimeout:
        ...     outcome = client.outcome("prices", future.request_id)
        >>> str(outcome.state) in ("queued", "committed")
        True
    """

    code = "result_timeout"


class RequestCancelled(OutcomeError, concurrent.futures.CancelledError):
    """The request was cancelled while it was queued; it was not applied."""

    code = "request_cancelled"


class RequestExpired(OutcomeError):
    """The request was not begun within its ``expires``; it was not and will not be applied."""

    code = "request_expired"


class OutcomeExpired(OutcomeError):
    """Redis no longer knows the request: its outcome is older than ``outcome_ttl``."""

    code = "outcome_expired"


class DeadLettered(OutcomeError):
    """Workers or engines crashed while they applied it; its staged file is a dead letter."""

    code = "dead_lettered"


def error_classes(root: type[DeltaqError] = DeltaqError) -> list[type[DeltaqError]]:
    """List a class of the tree and all below it, parents first."""
    return [root, *(c for child in root.__subclasses__() for c in error_classes(child))]


def _rebuild(
    kind: type[DeltaqError],
    message: str,
    request_id: str | None,
    table: str | None,
    details: dict[str, Any],
) -> DeltaqError:
    return kind(message, request_id=request_id, table=table, details=details)
