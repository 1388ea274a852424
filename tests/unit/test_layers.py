"""client -> tasks <- worker: what may import what."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("client", "tasks", "worker")
#: Rooms that a room may import besides itself.
ALLOWED = {"client": {"tasks"}, "tasks": set(), "worker": {"tasks"}}
#: Folders and modules that may also import the client: what hands one out, and what is a
#: program that uses the whole system.
USERS_OF_CLIENT = (Path("worker/deltaq/worker/system.py"), Path("worker/deltaq/worker/demo"))
MODULES = sorted(f for room in ROOMS for f in (ROOT / room).rglob("*.py"))


def imported_rooms(source: str, package: str) -> Iterator[str]:
    """List the rooms that a module of ``package`` (a dotted name) imports."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                targets = [alias.name for alias in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                parts = package.split(".")
                base = [
                    *(parts[: len(parts) - level + 1] if level else []),
                    *([module] if module else []),
                ]
                targets = [".".join([*base, alias.name]) for alias in names]
            case ast.Constant(value=str(text)) if (
                text.startswith("deltaq.") and text.count(".") > 1
            ):
                targets = [text]  # by importlib, or to run it
            case _:
                continue
        for target in targets:
            parts = target.split(".")
            if parts[0] == "deltaq" and len(parts) > 1 and parts[1] in ROOMS:
                yield parts[1]


@pytest.mark.parametrize("module", MODULES, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_import_crosses_the_layers(module: Path) -> None:
    name = module.relative_to(ROOT)
    room, package = name.parts[0], ".".join(name.parts[1:-1])
    allowed = {room} | ALLOWED[room]
    if any(name.is_relative_to(user) for user in USERS_OF_CLIENT):
        allowed = allowed | {"client"}
    assert set(imported_rooms(module.read_text(), package)) <= allowed


@pytest.mark.parametrize(
    "source",
    [
        "import deltaq.worker",
        "import deltaq.worker.app as x",
        "from deltaq import worker",
        "from deltaq.worker import app",
        "from ..worker import app",
        "from .. import worker",
        "def f():\n    from deltaq.worker.app import Worker",
        "importlib.import_module('deltaq.worker.app')",
    ],
)
def test_every_way_to_import_is_seen(source: str) -> None:
    assert set(imported_rooms(source, "deltaq.client")) == {"worker"}


def test_the_rooms_are_portions_of_one_namespace_package() -> None:
    # One stray __init__.py would hide the other rooms.
    assert [room for room in ROOMS if (ROOT / room / "deltaq" / "__init__.py").exists()] == []


def test_two_modules_of_the_client_look_for_entry_points() -> None:
    users = {f.name for f in (ROOT / "client").rglob("*.py") if "entry_points" in f.read_text()}
    assert users == {"cli.py", "in_process.py"}
