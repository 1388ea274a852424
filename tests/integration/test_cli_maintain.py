"""The verb for the upkeep of tables, with a worker that answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pytest

from deltaq.client import Client
from deltaq.worker import System, embedded
from tests.support.paths import as_path
from tests.support.shell import Forks, Shell


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with embedded(tmp_path_factory.mktemp("maintain") / "lake", spark="off") as system:
        system.wait_ready()
        yield system


@pytest.mark.timeout(120)
def test_the_upkeep_of_a_table_is_told_chosen_done_and_told_of(
    system: System, forks: Forks
) -> None:
    shell = Shell(system.settings, as_path(system.settings.lake).parent, forks)
    with Client(system.settings) as client:
        for n in range(5):
            client.append("prices", pa.table({"k": [n]})).result(60)

    code, _, said = shell.run("maintain", "prices", "--history")
    assert (code, said) == (0, "no maintenance in the last 5 commits\n")
    code, _, said = shell.run("maintain", "prices", "--set", "zorder=kk")
    assert (code, "zorder names 'kk', which is not in the table (did you mean 'k'?)" in said) == (
        1,
        True,
    )
    code, told, _ = shell.run("maintain", "prices", "--set", "zorder=k", "--set", "zorder_hours=0")
    assert (code, b"no such column" in told) == (0, False)
    stored, policy = told.decode().splitlines()[:2]
    assert stored.startswith("prices: 5 files (1 would do), ")
    assert stored.endswith(" bytes, 5 rows, 1 partition")
    assert policy == (
        "policy: compact_files=32 zorder=k zorder_hours=0 vacuum_hours=0 checkpoint_commits=20 "
        "hours=always"
    )
    assert b"  will write a checkpoint every 20 commits\n" in told
    assert b"5 files where 1 would do, up to 5 in one partition: optimize it" in told

    code, told, said = shell.run("maintain", "prices", "--run", "--json")
    assert (code, "compacted" in said) == (0, True)
    analysed = json.loads(told)
    assert (analysed["files"], analysed["policy"]["zorder"]) == (1, ["k"])
    assert analysed["plan"][-1] == "write a checkpoint every 20 commits"

    code, told, _ = shell.run("maintain", "prices", "--history")
    assert (code, told.count(b"optimize")) == (0, 2)
    lines = shell.run("maintain", "prices", "--history", "--json")[1].splitlines()
    assert [json.loads(line)["version"] for line in lines] == [7, 6]

    code, _, said = shell.run("maintain", "prices", "--set", "compact=3")
    assert (code, "did you mean 'compact_files'?" in said) == (1, True)
    assert shell.run("maintain", "prices", "--set", "nonsense")[0] == 2
    assert shell.run("maintain", "nowhere")[0] == 1
