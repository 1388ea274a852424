"""The tree of errors."""

from __future__ import annotations

import concurrent.futures
import pickle
import re

import msgspec
import pytest

from deltaq.tasks import errors
from deltaq.tasks.error_info import ErrorInfo, error_from_info, info_from_error
from deltaq.tasks.errors import (
    DeltaqError,
    RequestCancelled,
    ResultTimeout,
    TransientError,
    error_classes,
)

CLASSES = error_classes()


def make(kind: type[DeltaqError]) -> DeltaqError:
    return kind("what is wrong", request_id="r1", table="prices", details={"columns": ["a"]})


@pytest.mark.parametrize("kind", CLASSES)
def test_each_error_has_a_docstring_and_a_place_in_the_drawing(kind: type[DeltaqError]) -> None:
    assert kind.__doc__
    assert re.search(rf"\b{kind.__name__}\b", errors.__doc__ or "")


def test_each_error_has_a_code_of_its_own() -> None:
    assert len({kind.code for kind in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("kind", CLASSES)
def test_each_error_can_be_pickled(kind: type[DeltaqError]) -> None:
    again = pickle.loads(pickle.dumps(make(kind)))
    assert type(again) is kind
    assert vars(again) == vars(make(kind))
    assert str(again) == "what is wrong"


@pytest.mark.parametrize("kind", CLASSES)
def test_each_error_survives_the_wire(kind: type[DeltaqError]) -> None:
    wire = msgspec.json.encode(info_from_error(make(kind)))
    info = msgspec.json.decode(wire, type=ErrorInfo)
    again = error_from_info(info, request_id="r1", table="prices")
    assert type(again) is kind
    assert vars(again) == vars(make(kind))


def test_an_error_of_a_newer_version_becomes_the_root_and_keeps_its_code() -> None:
    again = error_from_info(ErrorInfo(code="from_the_future", message="what is wrong"))
    assert type(again) is DeltaqError
    assert str(again) == "what is wrong [from_the_future]"


def test_only_transient_errors_may_be_tried_again() -> None:
    assert {k for k in CLASSES if k.retryable} == set(error_classes(TransientError))


def test_errors_of_futures_are_those_that_the_library_knows() -> None:
    assert issubclass(ResultTimeout, TimeoutError)
    assert issubclass(RequestCancelled, concurrent.futures.CancelledError)
