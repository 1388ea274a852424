"""Errors of Spark and Delta become ours, all of them."""

from __future__ import annotations

import delta.exceptions
import pyspark.errors
import pytest
from pyspark.errors.exceptions import base, captured

from deltaq.tasks.errors import (
    CommitConflict,
    ConstraintViolated,
    DeltaqError,
    EngineDied,
    InvalidExpression,
    LeaseLost,
    RequestError,
    SchemaMismatch,
    VersionNotFound,
    error_classes,
)
from deltaq.worker.engines.spark_errors import BY_PYTHON_CLASS, translate


def foreign_classes() -> set[str]:
    modules = (pyspark.errors, base, captured, delta.exceptions)
    return {
        kind.__name__
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, base.PySparkException)
        and kind is not captured.CapturedException
    }


def test_every_exception_of_spark_and_delta_has_a_translation() -> None:
    assert foreign_classes() - set(BY_PYTHON_CLASS) == set()
    assert set(BY_PYTHON_CLASS.values()) <= set(error_classes())


@pytest.mark.parametrize("name", delta.exceptions.__all__)
def test_every_conflict_of_delta_may_be_tried_again(name: str) -> None:
    conflict = getattr(delta.exceptions, name)("somebody was first")

    translated = translate(conflict, "prices")

    assert type(translated) is CommitConflict
    assert translated.retryable
    assert translated.table == "prices"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("[SPARK_JOB_CANCELLED] Job 7 cancelled part of cancelled job group x", LeaseLost),
        ("[DELTA_NOT_NULL_CONSTRAINT_VIOLATED] NOT NULL constraint violated", ConstraintViolated),
        ("[DELTA_FAILED_TO_MERGE_FIELDS] Failed to merge fields 'a' and 'a'", SchemaMismatch),
        ("[DELTA_VERSION_NOT_FOUND] Cannot time travel to version 9", VersionNotFound),
        ("[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column `x` cannot be resolved", InvalidExpression),
        ("Job aborted: [CAST_INVALID_INPUT] The value 'a' is malformed", InvalidExpression),
    ],
)
def test_the_condition_in_a_message_decides(message: str, kind: type[DeltaqError]) -> None:
    assert type(translate(base.PySparkException(message), "prices")) is kind


def test_a_task_that_takes_executors_along_may_be_the_cause() -> None:
    message = (
        "Job aborted due to stage failure: Task 3 in stage 2.0 failed 4 times, most recent failure: "
        "Lost task 3.3 in stage 2.0 (TID 9) (10.0.0.7 executor 5): ExecutorLostFailure (executor 5 "
        "exited caused by one of the running tasks) Reason: Command exited with code 137"
    )

    assert type(translate(base.PySparkException(message), "prices")) is EngineDied


def test_a_message_has_neither_codes_nor_plan_nor_stack() -> None:
    message = (
        "[UNRESOLVED_COLUMN] A column `vv` cannot be resolved. SQLSTATE: 42703; line 1 pos 0;\n"
        "'Filter ('vv = 1)\n+- Relation [k#1L] parquet\n\n\tat org.apache.spark.Catalyst.fail(x:1)"
    )

    assert translate(base.PySparkException(message), "prices").message == (
        "table prices: A column `vv` cannot be resolved."
    )


def test_an_error_of_a_query_over_several_tables_names_none() -> None:
    message = "[UNRESOLVED_COLUMN] A column `vv` cannot be resolved."

    assert translate(base.PySparkException(message), "*").message == (
        "A column `vv` cannot be resolved."
    )


def test_an_unknown_error_is_not_tried_for_ever() -> None:
    translated = translate(base.PySparkException("the unforeseen\nhas happened"), "prices")

    assert type(translated) is RequestError
    assert translated.message == "table prices: PySparkException: the unforeseen has happened"
