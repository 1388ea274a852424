"""Errors of delta-rs and DataFusion in our terms. The one place that knows theirs.

delta-rs has five classes of its own and tells most things in the message alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from deltalake.exceptions import (
    CommitFailedError,
    DeltaError,
    DeltaProtocolError,
    SchemaMismatchError,
    TableNotFoundError,
)

from deltaq.tasks.errors import (
    CommitConflict,
    ConstraintViolated,
    DeltaqError,
    DuplicateKeys,
    InvalidExpression,
    RequestError,
    SchemaMismatch,
    StorageUnavailable,
    TableNotFound,
    VersionNotFound,
)
from deltaq.tasks.s3 import explain
from deltaq.worker.engines import NotNative
from deltaq.worker.engines.columns import APPEND_ONLY

#: What delta-rs raises: its own classes, what PyO3 makes of other errors, and Arrow's.
FOREIGN = (DeltaError, OSError, ValueError, NotImplementedError)

#: By a pattern in the message; the first that is found decides.
_BY_MESSAGE: tuple[tuple[str, type[DeltaqError] | type[NotNative]], ...] = (
    # Before all else: what a server says may have any word in it.
    (r"Generic S3 error|The operation lacked|NoSuchBucket", StorageUnavailable),
    (r"failed validation check|[Ii]nvariant|append-only|non-nullable", ConstraintViolated),
    (r"Unsupported table features?|[Uu]nsupported (reader|writer)", NotNative),
    (r"[Uu]nknown (reader|writer)? ?feature|not supported by|Feature .* is not", NotNative),
    (r"already exists at|Concurrent|Failed to commit transaction: \d+$", CommitConflict),
    (r"LogSegment end version|[Ii]nvalid table version|No commit.* version", VersionNotFound),
    (r"matched (more than|multiple)|multiple source rows", DuplicateKeys),
    (r"sql parser error|No field named|Error during planning|Invalid function", InvalidExpression),
    (r"non-boolean|Cannot infer common|cannot be cast|Cast error", InvalidExpression),
    (r"Object at location .* not found", VersionNotFound),
    (r"[Nn]o space left|[Pp]ermission denied|Read-only file system", StorageUnavailable),
    (r"Object Store|ObjectStore|object store|Object at location|IO error", StorageUnavailable),
)
#: By class, when the message says nothing known.
BY_CLASS: dict[type[Exception], type[DeltaqError] | type[NotNative]] = {
    TableNotFoundError: TableNotFound,
    CommitFailedError: CommitConflict,
    DeltaProtocolError: NotNative,
    SchemaMismatchError: SchemaMismatch,
    NotImplementedError: NotNative,
    OSError: StorageUnavailable,
    DeltaError: RequestError,
}
#: Layers that delta-rs puts in front of what happened.
_LAYERS = re.compile(r"^(?:Kernel: |(?:\w+ )+error: )+")
_LENGTH = 500


@contextmanager
def native_errors(table: str) -> Iterator[None]:
    """Raise errors of our tree, or NotNative, in place of those of delta-rs.

    One that is not known becomes a ``RequestError`` with the name of its class.
    """
    try:
        yield
    except FOREIGN as exc:
        raise translate_error(exc, table) from exc
    except BaseException as exc:
        if type(exc).__name__ == "PanicException":  # of Rust, and no Exception to Python
            raise NotNative(f"delta-rs gave up: {_readable(str(exc))}") from exc
        if type(exc) is not Exception:  # PyO3's plain one is delta-rs's as well
            raise
        raise translate_error(exc, table) from exc


def translate_error(error: Exception, table: str) -> DeltaqError | NotNative:
    """Find the error that says what an error of delta-rs means."""
    text = str(error)
    kind = _classify(error, text)
    said = APPEND_ONLY if "append-only" in text else _readable(text)
    if kind is StorageUnavailable and (meaning := explain(text)):
        said = meaning
    if issubclass(kind, NotNative):
        return kind(f"delta-rs: {said}", of_table=True)
    about = "" if table == "*" else f"table {table}: "  # a query of several tables has the star
    if kind is RequestError:
        return kind(f"{about}{type(error).__name__}: {said}", table=table)
    return kind(f"{about}{said}", table=table)


def _classify(error: Exception, text: str) -> type[DeltaqError] | type[NotNative]:
    if isinstance(error, TableNotFoundError):
        return TableNotFound
    for pattern, kind in _BY_MESSAGE:
        if re.search(pattern, text):
            return kind
    for base in type(error).__mro__:
        if base in BY_CLASS:
            return BY_CLASS[base]
    return RequestError


def _readable(text: str) -> str:
    """Keep the first line, without the layers in front of it."""
    line = _LAYERS.sub("", text.strip().partition("\n")[0])
    return line if len(line) <= _LENGTH else f"{line[:_LENGTH]}..."
