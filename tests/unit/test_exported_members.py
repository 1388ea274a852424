"""What ``deltaq.client`` exports."""

from __future__ import annotations

import inspect

import deltaq.client
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


def test_every_exported_name_has_a_docstring() -> None:
    for name in deltaq.client.__all__:
        assert getattr(deltaq.client, name).__doc__, name
