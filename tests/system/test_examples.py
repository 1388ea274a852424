"""Each public name has a docstring, and its examples do what they say.

They are run on one system, each with a client of its own and a lake with one table, ``prices``.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import dataclasses
import doctest
import enum
import inspect
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
import pytest

import deltaq.client
from deltaq.client import AsyncClient, Client, DeltaLakeManager, DeltaqError, SchemaMismatch
from deltaq.client.progress import AsyncProgress, Progress
from deltaq.tasks.settings import Settings
from deltaq.worker import System, embedded
from tests.support.paths import as_path
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(120)

FRAME = pd.DataFrame({"symbol": ["IBM", "MSFT"], "price": [101.5, 39.5]})
#: Public, though nobody imports them by name.
RETURNED = {"Progress": Progress, "AsyncProgress": AsyncProgress}
#: Called by pydantic.
HOOKS = {"settings_customise_sources"}
PUBLIC = {name: getattr(deltaq.client, name) for name in deltaq.client.__all__} | RETURNED


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """List the public methods and properties that a class has from us, not from Python."""
    for name in sorted(set(dir(kind)) - HOOKS):
        found = inspect.getattr_static(kind, name)
        made = getattr(found, "fget", None) or getattr(found, "__func__", found)
        ours = inspect.isfunction(made) and made.__module__.startswith("deltaq.")
        if ours and not name.startswith("_"):
            yield name, made


def documented() -> Iterator[tuple[str, Any]]:
    """List all that must have a docstring: names and what has it."""
    for name, found in PUBLIC.items():
        yield name, found
        if inspect.isclass(found):
            yield from ((f"{name}.{member}", made) for member, made in members(found))


def needs_no_example(name: str, found: Any) -> bool:
    """Tell what its fields, its base class or its class have the example for."""
    if not inspect.isclass(found):
        owner, _, member = name.rpartition(".")
        return bool(owner) and isinstance(inspect.getattr_static(PUBLIC[owner], member), property)
    if issubclass(found, DeltaqError) and found is not DeltaqError:
        return True
    values = (enum.Enum, msgspec.Struct, Settings)
    return dataclasses.is_dataclass(found) or issubclass(found, values)


def examples(found: Any) -> list[doctest.Example]:
    doc = inspect.getdoc(found)
    return doctest.DocTestParser().get_examples(doc) if doc else []


WITH_EXAMPLES = {name: made for name, made in documented() if examples(made)}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system without Spark, where request ``order-9`` on table ``orders`` was given up."""
    with (
        embedded(tmp_path_factory.mktemp("examples") / "lake", spark="off") as system,
        system.client() as client,
    ):
        client.append("orders", pd.DataFrame({"symbol": ["IBM"], "qty": [10]})).result(60)
        bad = pd.DataFrame({"symbol": ["IBM"], "qty": ["ten"]})
        with pytest.raises(SchemaMismatch):
            client.append("orders", bad, request_id="order-9").result(60)
        yield system


@pytest.fixture
def names(system: System, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the examples may use."""
    monkeypatch.chdir(as_path(system.settings.lake).parent)
    for variable, value in system.env.items():
        monkeypatch.setenv(variable, value)
    with system.client() as client, DeltaLakeManager("./lake") as lake:
        _only_prices(as_path(system.settings.lake), client)
        yield {
            **{name: getattr(deltaq.client, name) for name in deltaq.client.__all__},
            **{"asyncio": asyncio, "pa": pa, "pd": pd},
            **{"client": client, "frame": FRAME, "lake": lake},
        }


def _only_prices(lake: Path, client: Client) -> None:
    # Also what the example before did not wait for; and what it redrove is given up again.
    wait_until(lambda: not client.status() and client.dead_letters("orders"))
    for table in lake.iterdir():
        if table.name not in (".deltaq", "orders"):
            shutil.rmtree(table)
    client.append("prices", FRAME).result(30)


async def _run(name: str, made: Any, names: dict[str, Any]) -> None:
    for example in examples(made):
        place = f"{name}, line {example.lineno + 1}:\n{example.source}"
        code = compile(example.source, place, "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            try:
                answer = eval(code, names)
                if inspect.isawaitable(answer):
                    await answer
            except DeltaqError as exc:
                assert example.exc_msg, place
                print(f"{type(exc).__module__}.{type(exc).__name__}: {exc}")
        wanted = example.exc_msg or example.want
        alike = doctest.OutputChecker().check_output(wanted, said.getvalue(), doctest.ELLIPSIS)
        assert alike, f"{place}said\n{said.getvalue()}"


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_an_example_does_what_it_says(name: str, names: dict[str, Any], system: System) -> None:
    async def run() -> None:
        if name.startswith("Async"):
            async with AsyncClient(system.settings) as client:
                await _run(name, WITH_EXAMPLES[name], {**names, "client": client})
        else:
            await _run(name, WITH_EXAMPLES[name], names)

    asyncio.run(run())


def test_each_public_name_has_a_docstring() -> None:
    assert [name for name, made in documented() if not inspect.getdoc(made)] == []


def test_each_public_name_has_an_example() -> None:
    missing = [
        name
        for name, made in documented()
        if name not in WITH_EXAMPLES and not needs_no_example(name, made)
    ]

    # Two to six lines under "Examples:" in the docstring; they are run by the test above.
    assert missing == []
