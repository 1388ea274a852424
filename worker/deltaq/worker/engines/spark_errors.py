"""Errors of Spark, Delta and py4j in our terms. The one place that knows theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from deltaq.tasks.errors import (
    CommitConflict,
    ConstraintViolated,
    DeltaqError,
    DuplicateKeys,
    EngineDied,
    EngineUnavailable,
    InvalidExpression,
    InvalidRequest,
    LeaseLost,
    RequestError,
    SchemaMismatch,
    StorageUnavailable,
    TableNotFound,
    VersionNotFound,
)
from deltaq.worker.engines.columns import APPEND_ONLY

#: By the condition that Spark and Delta put in brackets before a message; a prefix is enough.
#: The first that fits decides.
BY_CONDITION: dict[str, type[DeltaqError]] = {
    "SPARK_JOB_CANCELLED": LeaseLost,
    "DELTA_CONCURRENT": CommitConflict,
    "DELTA_METADATA_CHANGED": CommitConflict,
    "DELTA_PROTOCOL_CHANGED": CommitConflict,
    "DELTA_CANNOT_MODIFY_APPEND_ONLY": ConstraintViolated,
    "DELTA_NOT_NULL_": ConstraintViolated,
    "DELTA_VIOLATE_": ConstraintViolated,
    "DELTA_EXCEED_CHAR_VARCHAR_LIMIT": ConstraintViolated,
    "DELTA_REPLACE_WHERE_MISMATCH": ConstraintViolated,
    "EXCEED_LIMIT_LENGTH": ConstraintViolated,
    "NOT_NULL_ASSERT_VIOLATION": ConstraintViolated,
    "DELTA_MULTIPLE_SOURCE_ROW_MATCHING": DuplicateKeys,
    "DELTA_VERSION_": VersionNotFound,
    "DELTA_TIMESTAMP_": VersionNotFound,
    "DELTA_UNSUPPORTED_TIME_TRAVEL": VersionNotFound,
    "DELTA_CANNOT_RESTORE": VersionNotFound,
    "DELTA_LOG_FILE_NOT_FOUND": VersionNotFound,
    "FAILED_READ_FILE.FILE_NOT_EXIST": VersionNotFound,
    "DELTA_MISSING_DELTA_TABLE": TableNotFound,
    "DELTA_TABLE_NOT_FOUND": TableNotFound,
    "DELTA_PATH_DOES_NOT_EXIST": TableNotFound,
    "PATH_NOT_FOUND": TableNotFound,
    "DELTA_FAILED_TO_MERGE_FIELDS": SchemaMismatch,
    "DELTA_MERGE_": SchemaMismatch,
    "DELTA_METADATA_MISMATCH": SchemaMismatch,
    "DELTA_SCHEMA_": SchemaMismatch,
    "DELTA_MISSING_COLUMN": SchemaMismatch,
    "DELTA_COLUMN_": SchemaMismatch,
    "DELTA_PARTITION_COLUMN": SchemaMismatch,
    "DELTA_INVALID_PARTITION_COLUMN": SchemaMismatch,
    "DELTA_CANNOT_USE_ALL_COLUMNS": SchemaMismatch,
    "DELTA_FEATURES_REQUIRE_MANUAL_ENABLEMENT": SchemaMismatch,
    "DELTA_GENERATED_COLUMN": SchemaMismatch,
    "DELTA_IDENTITY_COLUMNS": SchemaMismatch,
    "FAILED_READ_FILE.PARQUET_COLUMN_DATA_TYPE_MISMATCH": SchemaMismatch,
    "DELTA_UNKNOWN_CONFIGURATION": InvalidRequest,
    "UNRESOLVED_COLUMN": InvalidExpression,
    "UNRESOLVED_ROUTINE": InvalidExpression,
    "PARSE_": InvalidExpression,
    "DATATYPE_MISMATCH": InvalidExpression,
    "CAST_": InvalidExpression,
    "DIVIDE_BY_ZERO": InvalidExpression,
    "ARITHMETIC_OVERFLOW": InvalidExpression,
}
#: By words in a message that has no condition.
BY_WORDS: dict[str, type[DeltaqError]] = {
    "The provided timestamp": VersionNotFound,  # of Delta Kernel
    "stopped SparkContext": EngineUnavailable,
    "SparkContext was shut down": EngineUnavailable,
    # Of a task that was tried four times, and took an executor with it each time.
    "ExecutorLostFailure": EngineDied,
}
#: By the name of a Java class, without its package.
BY_JAVA_CLASS: dict[str, type[DeltaqError]] = {
    "ConcurrentWriteException": CommitConflict,
    "TableNotFoundException": TableNotFound,
    "DeltaInvariantViolationException": ConstraintViolated,
    "InvariantViolationException": ConstraintViolated,
    "FileAlreadyExistsException": StorageUnavailable,
    "AccessControlException": StorageUnavailable,
    "FileSystemException": StorageUnavailable,
    "AccessDeniedException": StorageUnavailable,
    "NoSuchFileException": StorageUnavailable,
    "KernelEngineException": StorageUnavailable,
    "FSError": StorageUnavailable,
    "IOException": StorageUnavailable,
    "FileNotFoundException": StorageUnavailable,
    "InterruptedException": LeaseLost,
    "InterruptedIOException": LeaseLost,
    "ClosedByInterruptException": LeaseLost,
}
#: By the beginning of the full name of a Java class that is not among those above.
BY_PACKAGE: dict[str, type[DeltaqError]] = {
    "org.apache.hadoop.fs.s3a.": StorageUnavailable,
    "software.amazon.awssdk.": StorageUnavailable,
}
#: By the Python class, when nothing more telling was found: all of pyspark.errors and
#: delta.exceptions; ``test_every_exception_of_spark_and_delta_has_a_translation`` holds that.
BY_PYTHON_CLASS: dict[str, type[DeltaqError]] = {
    "DeltaConcurrentModificationException": CommitConflict,
    "ConcurrentWriteException": CommitConflict,
    "MetadataChangedException": CommitConflict,
    "ProtocolChangedException": CommitConflict,
    "ConcurrentAppendException": CommitConflict,
    "ConcurrentDeleteReadException": CommitConflict,
    "ConcurrentDeleteDeleteException": CommitConflict,
    "ConcurrentTransactionException": CommitConflict,
    "ParseException": InvalidExpression,
    "ArithmeticException": InvalidExpression,
    "ArrayIndexOutOfBoundsException": InvalidExpression,
    "DateTimeException": InvalidExpression,
    "NumberFormatException": InvalidExpression,
    "SparkNoSuchElementException": InvalidExpression,
    "SparkUpgradeException": InvalidExpression,
    # Of these the same request gets the same again, whatever is behind them.
    "AnalysisException": RequestError,
    "IllegalArgumentException": RequestError,
    "PythonException": RequestError,
    "PickleException": RequestError,
    "PySparkException": RequestError,
    "PySparkAssertionError": RequestError,
    "PySparkAttributeError": RequestError,
    "PySparkImportError": RequestError,
    "PySparkIndexError": RequestError,
    "PySparkKeyError": RequestError,
    "PySparkNotImplementedError": RequestError,
    "PySparkPicklingError": RequestError,
    "PySparkRuntimeError": RequestError,
    "PySparkTypeError": RequestError,
    "PySparkValueError": RequestError,
    "QueryContext": RequestError,
    "QueryExecutionException": RequestError,
    "SessionNotSameException": RequestError,
    "SparkRuntimeException": RequestError,
    "StreamingPythonRunnerInitializationException": RequestError,
    "StreamingQueryException": RequestError,
    "TempTableAlreadyExistsException": RequestError,
    "UnknownException": RequestError,
    "UnsupportedOperationException": RequestError,
}

#: What the other engine finds too is said in its words.
_REWORDED = (
    (
        r"partial table overwrite condition or constraint '(.*?)'\.",
        "a row of the frame is outside where={0!r}, for only such rows are replaced",
    ),
    (
        r"NOT NULL constraint violated for column: (.+?)\.\s",
        "column {0!r} is null, and must not be",
    ),
    (r"configured to only allow appends", APPEND_ONLY),
    (r"Unknown configuration was specified: (\S+)", "Delta knows no property {0!r}"),
    (r"CHECK constraint (\w+) (.+?) violated by row with values:", "a row breaks a rule: {0} {1}"),
)
_CONDITION = re.compile(r"\[([A-Z][A-Z0-9_]+(?:\.[A-Z][A-Z0-9_]+)?)\]")
#: Where a message ends for a person: code, query plan or stack follow.
_END = re.compile(r"\s*(SQLSTATE: |\n\tat |\n'|\n\+- |\n== )")

#: Exceptions looked at below the one that was thrown.
_DEPTH = 12
_LENGTH = 400


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One exception in a chain, the outermost first."""

    java_class: str
    message: str


@contextmanager
def spark_errors(table: str) -> Iterator[None]:
    """Raise errors of our tree in place of those of Spark, Delta and py4j."""
    from py4j.protocol import Py4JError, Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except DeltaqError:
        raise
    except (PySparkException, Py4JJavaError) as exc:
        raise translate(exc, table) from exc
    except (Py4JError, ConnectionError, EOFError) as exc:
        raise EngineUnavailable(
            f"Spark's JVM does not answer: {type(exc).__name__}", table=table
        ) from exc
    except OSError as exc:  # of a file that we look at ourselves
        raise StorageUnavailable(f"table {table}: {exc}", table=table) from exc


def translate(error: Exception, table: str) -> DeltaqError:
    """Find the error of our tree that says what an error of Spark, Delta or Java means."""
    if type(error).__name__ == "ConcurrentTransactionException":
        # Delta's message is about streaming queries.
        return CommitConflict(
            f"table {table}: another worker moved the ledger first; the commit was refused",
            table=table,
        )
    causes = list(_chain(error))
    kind, cause = _classify(type(error).__name__, causes)
    about = "" if table == "*" else f"table {table}: "  # a query of several tables has the star
    if kind in (RequestError, StorageUnavailable):
        name = cause.java_class.rpartition(".")[2]
        return kind(f"{about}{name}: {_readable(cause.message)}", table=table)
    for pattern, said in _REWORDED:
        if found := re.search(pattern, cause.message, re.DOTALL):
            return kind(f"{about}{said.format(*found.groups())}", table=table)
    return kind(f"{about}{_readable(cause.message)}", table=table)


def _classify(python_class: str, causes: list[Cause]) -> tuple[type[DeltaqError], Cause]:
    for cause in causes:
        for condition in _CONDITION.findall(cause.message):
            for prefix, kind in BY_CONDITION.items():
                if condition.startswith(prefix):
                    return kind, cause
    for cause in causes:
        for words, kind in BY_WORDS.items():
            if words in cause.message:
                return kind, cause
    for cause in reversed(causes):  # the innermost knows what happened
        name = cause.java_class.rpartition(".")[2]
        if name in BY_JAVA_CLASS:
            return BY_JAVA_CLASS[name], cause
        for package, kind in BY_PACKAGE.items():
            if cause.java_class.startswith(package):
                return kind, cause
    return BY_PYTHON_CLASS.get(python_class, RequestError), causes[0]


def _chain(error: Any) -> Iterator[Cause]:
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    if java is None:  # Delta's Python classes keep the text only
        text = getattr(error, "_desc", None) or str(error)
        yield Cause(java_class=type(error).__name__, message=text)
    for _ in range(_DEPTH):
        if java is None:
            return
        yield Cause(java_class=str(java.getClass().getName()), message=str(java.getMessage() or ""))
        java = java.getCause()


def _readable(message: str) -> str:
    """Cut a message down to what a person needs: no stack, no plan, no codes."""
    text = _CONDITION.sub("", _END.split(message, maxsplit=1)[0])
    text = " ".join(text.split())
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}..."
