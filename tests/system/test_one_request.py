"""One request from end to end, through a real worker."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from deltaq.client import Client, State
from deltaq.tasks.request import EngineName
from deltaq.worker import System, embedded
from tests.support.log import committed_requests, ledgers

ENGINES: list[EngineName] = ["native", "spark"]
pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_table_lives_through_every_operation(
    client: Client, shared_system: System, engine: EngineName
) -> None:
    table = f"life_{engine}"
    rows = pa.table({"id": [1, 2, 3], "price": [1.0, 2.0, 3.0]})
    futures = [
        client.append(table, rows, engine=engine),
        client.merge(
            table, pa.table({"id": [3, 4], "price": [30.0, 40.0]}), keys=["id"], engine=engine
        ),
        client.delete(table, where="id = 1", engine=engine),
        client.overwrite(
            table, pa.table({"id": [2], "price": [20.0]}), where="id = 2", engine=engine
        ),
    ]

    outcomes = [f.result(120) for f in futures]

    assert [o.version for o in outcomes] == [0, 1, 2, 3]
    assert all(o.engine == engine for o in outcomes)
    assert (outcomes[1].updated, outcomes[1].inserted) == (1, 1)
    assert outcomes[2].deleted == 1
    now = client.read(table, where="id >= 2", engine=engine).result(120).sort_by("id")
    assert now.to_pydict() == {"id": [2, 3, 4], "price": [20.0, 30.0, 40.0]}
    then = client.read(table, version=0, columns=["price"], engine=engine).result(120)
    assert sorted(then["price"].to_pylist()) == [1.0, 2.0, 3.0]
    folder = shared_system.settings.lake / table
    assert [r[2] for r in committed_requests(folder)] == [f.request_id for f in futures]
    assert [(version, sequence) for version, _, sequence in ledgers(folder)] == [
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
    ]


def test_what_the_lake_holds_can_be_asked(client: Client) -> None:
    client.append("asked", pa.table({"id": [1], "day": ["a"]}), partition_by=["day"]).result(120)

    assert client.exists("asked") is True
    assert client.exists("missing") is False
    assert "asked" in client.tables()
    assert client.detail("asked")["version"] == 0
    history = client.history("asked")
    assert history["version"].to_pylist() == [0]


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_frames_of_each_library_go_in(client: Client, library: type) -> None:
    frame = library({"id": [1, 2], "name": ["a", None]})

    client.append(f"frames_{library.__module__.split('.')[0]}", frame).result(120)

    back = client.read(f"frames_{library.__module__.split('.')[0]}").result(120)
    assert back.sort_by("id").to_pydict() == {"id": [1, 2], "name": ["a", None]}


def test_submissions_need_no_worker_and_resolve_when_one_starts(lake: Path) -> None:
    with embedded(lake, workers=0, spark="off") as system, system.client() as client:
        futures = [client.append("early", pa.table({"n": [n]})) for n in range(20)]
        assert not any(f.done() for f in futures)

        system.start_worker()

        outcomes = [f.result(60) for f in futures]
        assert all(o.state is State.COMMITTED for o in outcomes)
        assert [o.sequence for o in outcomes] == list(range(1, 21))


def test_a_queued_request_can_be_cancelled_and_is_never_applied(lake: Path) -> None:
    with embedded(lake, workers=0, spark="off") as system, system.client() as client:
        first, second = (client.append("t", pa.table({"n": [n]})) for n in range(2))

        assert first.cancel() is True
        system.start_worker()

        assert second.result(60).version == 0
        assert client.read("t").result(60).to_pydict() == {"n": [1]}
        assert first.cancelled()


def test_what_was_queued_when_a_system_ended_is_committed_by_the_next(lake: Path) -> None:
    with embedded(lake, workers=0, spark="off") as system, system.client() as client:
        client.append("kept", pa.table({"n": [1]}))

    with embedded(lake, workers=1, spark="off") as system, system.client() as client:
        client.append("kept", pa.table({"n": [2]})).result(60)
        assert sorted(client.read("kept").result(60)["n"].to_pylist()) == [1, 2]
