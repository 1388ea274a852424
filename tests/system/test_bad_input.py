"""Bad input gives a typed error at the caller, changes nothing, and the queue goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from deltaq import client as dq
from deltaq.client import Client
from deltaq.tasks.request import EngineName
from deltaq.worker import System
from tests.support.waiting import wait_until

ENGINES: list[EngineName] = ["native", "spark"]
ROWS = pa.table({"id": [1, 2], "price": [1.5, 2.5]})

pytestmark = pytest.mark.timeout(180)


def _same_keys(client: Client, table: str, engine: EngineName) -> Any:
    rows = pa.table({"id": [7, 7], "price": [1.0, 2.0]})
    return client.merge(table, rows, keys=["id"], engine=engine)


REFUSED_BY_THE_WORKER: list[
    tuple[str, type[dq.DeltaqError], Callable[[Client, str, EngineName], Any]]
] = [
    ("duplicate merge keys", dq.DuplicateKeys, _same_keys),
    (
        "an extra column",
        dq.SchemaMismatch,
        lambda c, t, e: c.append(t, ROWS.append_column("extra", [["a", "b"]]), engine=e),
    ),
    (
        "text for a number",
        dq.SchemaMismatch,
        lambda c, t, e: c.append(t, pa.table({"id": ["x"], "price": [1.0]}), engine=e),
    ),
    (
        "a fraction for an integer",
        dq.SchemaMismatch,
        lambda c, t, e: c.append(t, pa.table({"id": [1.5], "price": [1.0]}), engine=e),
    ),
    (
        "other partitions",
        dq.SchemaMismatch,
        lambda c, t, e: c.append(t, ROWS, partition_by=["id"], engine=e),
    ),
    (
        "where that does not parse",
        dq.InvalidExpression,
        lambda c, t, e: c.delete(t, where="id >", engine=e),
    ),
    (
        "where with an unknown column",
        dq.InvalidExpression,
        lambda c, t, e: c.delete(t, where="idd = 1", engine=e),
    ),
    (
        "where that calls Java",
        dq.InvalidExpression,
        lambda c, t, e: c.delete(t, where="reflect('java.lang.System', 'exit', 0) = 1", engine=e),
    ),
    (
        "delete from no table",
        dq.TableNotFound,
        lambda c, t, e: c.delete("nowhere", where="true", engine=e),
    ),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("kind", "ask"),
    [pytest.param(kind, ask, id=what) for what, kind, ask in REFUSED_BY_THE_WORKER],
)
def test_what_the_worker_refuses_comes_back_as_its_type_and_changes_nothing(
    shared_system: System,
    client: Client,
    request: pytest.FixtureRequest,
    kind: type[dq.DeltaqError],
    ask: Callable[[Client, str, EngineName], Any],
    engine: EngineName,
) -> None:
    table = f"refused_{engine}"
    before = client.append(table, ROWS, engine=engine).result(120)

    with pytest.raises(kind) as caught:
        ask(client, table, engine).result(120)

    after = client.append(table, ROWS, engine=engine).result(120)
    assert after.version == (before.version or 0) + 1
    assert "\n" not in str(caught.value)
    assert "java" not in str(caught.value).replace("java_method", "").lower() or "where" in str(
        caught.value
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_one_bad_request_in_a_group_fails_alone(
    client: Client, shared_system: System, engine: EngineName
) -> None:
    table = f"bisect_{engine}"
    client.append(table, ROWS, engine=engine).result(120)
    good = [client.append(table, ROWS, engine=engine) for _ in range(4)]
    bad = client.append(table, pa.table({"id": [1.5], "price": [1.0]}), engine=engine)
    more = [client.append(table, ROWS, engine=engine) for _ in range(4)]

    assert all(f.result(120).state is dq.State.COMMITTED for f in good + more)
    with pytest.raises(dq.SchemaMismatch):
        bad.result(120)
    assert client.read(table).result(120).num_rows == 2 * 9
    graves = shared_system.settings.staging_root / "dead" / table
    staged = shared_system.settings.staging_root / "requests" / table
    wait_until(lambda: not list(staged.iterdir()))  # the caller is told first
    assert {f.suffix for f in graves.iterdir()} == {".parquet", ".json"}


def test_reading_what_is_not_there_says_so(client: Client) -> None:
    client.append("readable", ROWS).result(120)

    with pytest.raises(dq.TableNotFound):
        client.read("nowhere").result(60)
    with pytest.raises(dq.VersionNotFound):
        client.read("readable", version=99).result(60)
    with pytest.raises(dq.InvalidExpression):
        client.read("readable", where="pricee > 1").result(60)
    with pytest.raises(dq.SchemaMismatch):
        client.read("readable", columns=["pricee"]).result(60)


@pytest.mark.parametrize("name", ["../x", "", "a/b", "x" * 300, ".hidden"])
def test_a_bad_table_name_is_refused_in_the_caller(client: Client, name: str) -> None:
    with pytest.raises(dq.InvalidTableName):
        client.append(name, ROWS)


def test_a_timeout_leaves_the_request_going_and_it_can_be_asked_for_again(client: Client) -> None:
    future = client.append("timed_out", ROWS)

    with pytest.raises(dq.ResultTimeout) as caught:
        future.result(timeout=0)

    assert caught.value.request_id == future.request_id
    assert future.result(120).state is dq.State.COMMITTED
    again = client.outcome("timed_out", future.request_id)
    assert isinstance(again, dq.Outcome)
    assert again.version == future.result().version
