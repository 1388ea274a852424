"""What holds for every verb of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.main import get_command

from deltaq.client import cli
from deltaq.tasks.errors import (
    ConfigurationError,
    DeltaqError,
    QueueUnavailable,
    ResultTimeout,
    error_classes,
)
from deltaq.tasks.verbs import Code, exit_code
from deltaq.worker import cli as worker_cli

#: Verbs that run until they are stopped, draw a screen or tell a story; they have nothing to say in JSON.
WITHOUT_JSON = {"worker", "flower", "demo", "top"}


def verbs() -> Iterator[tuple[str, Any]]:
    """List all verbs with their names as typed."""
    app = typer.Typer()
    for part in (*(module.app for module in cli._OWN), worker_cli.app):
        app.registered_commands.extend(part.registered_commands)
        app.registered_groups.extend(part.registered_groups)
    for name, verb in get_command(app).commands.items():  # type: ignore[attr-defined]
        if verb.hidden:
            continue
        for below, command in getattr(verb, "commands", {"": verb}).items():
            yield f"{name} {below}".strip(), command


VERBS = dict(verbs())


def test_the_verbs_are_these() -> None:
    assert sorted(VERBS) == [
        *("append", "backfill cancel", "backfill list", "backfill resume", "backfill run"),
        *("backfill show", "cancel", "config", "create", "dead-letters list", "dead-letters show"),
        *("delete", "demo", "describe", "dev", "doctor", "drop", "flower", "history", "jars"),
        *("maintain", "merge", "optimize", "outcome", "overwrite", "read", "recover", "redrive"),
        *("restore", "sql", "status", "tables", "top", "vacuum", "watch", "worker"),
    ]


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_explains_itself_with_an_example(name: str) -> None:
    assert f"Example: deltaq {name}" in VERBS[name].help


@pytest.mark.parametrize("name", VERBS)
def test_every_option_of_a_verb_is_explained(name: str) -> None:
    assert [p.name for p in VERBS[name].params if not getattr(p, "help", None)] == []


@pytest.mark.parametrize("name", sorted(set(VERBS) - WITHOUT_JSON))
def test_every_verb_speaks_json(name: str) -> None:
    assert "--json" in [option for p in VERBS[name].params for option in p.opts]


def test_an_exit_code_tells_what_kind_of_error_it_was() -> None:
    special = {
        ConfigurationError: Code.USAGE,
        QueueUnavailable: Code.UNAVAILABLE,
        ResultTimeout: Code.TIMED_OUT,
    }

    told = {kind: exit_code(kind("it")) for kind in error_classes(DeltaqError)}

    assert told == {kind: special.get(kind, Code.FAILED) for kind in told}
