"""What ``deltaq.client`` exports."""

from __future__ import annotations

import inspect

import pytest

import deltaq.client
from deltaq.client import AsyncScan, AsyncWatch, Scan, Watch
from deltaq.tasks.errors import error_classes


def test_all_names_what_can_be_imported() -> None:
    public = {
        name
        for name in dir(deltaq.client)
        if not name.startswith("_") and not inspect.ismodule(getattr(deltaq.client, name))
    }
    assert public == set(deltaq.client.__all__)
    assert sorted(deltaq.client.__all__) == sorted(set(deltaq.client.__all__))


def test_every_error_is_exported() -> None:
    assert {e.__name__ for e in error_classes()} <= set(deltaq.client.__all__)


@pytest.mark.parametrize("kind", [Scan, AsyncScan, Watch, AsyncWatch])
def test_what_only_clients_make_shows_no_arguments(kind: type[object]) -> None:
    assert list(inspect.signature(kind).parameters) == []
