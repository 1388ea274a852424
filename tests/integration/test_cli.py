"""The verbs of users, as a shell runs them; the test plays the worker."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deltaq.tasks.errors import SchemaMismatch
from deltaq.tasks.settings import Settings
from tests.integration.test_client import next_query
from tests.support.player import Player
from tests.support.waiting import wait_until

ROWS = pa.table({"symbol": ["A", "B"], "price": [1.5, None]})


class Shell:
    """Runs ``deltaq`` with the settings of a test, and meanwhile what a worker would do."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("DELTAQ_")},
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "DELTAQ_LAKE": str(settings.lake),
            "DELTAQ_REDIS_URL": settings.redis_url.get_secret_value(),
            "DELTAQ_REDIS_TIMEOUT": "1",
            "COLUMNS": "200",
        }

    def run(
        self, *arguments: str, worker: Callable[[], object] | None = None, stdin: bytes = b""
    ) -> tuple[int, bytes, str]:
        """Return exit code, stdout and stderr."""
        with subprocess.Popen(
            [sys.executable, "-m", "deltaq.client.cli", *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(stdin)
                process.stdin.close()
            process.stdin = None
            if worker is not None:
                worker()
            out, err = process.communicate(timeout=30)
            return process.returncode, out, err.decode()


@pytest.fixture
def shell(settings: Settings, tmp_path: Path) -> Shell:
    return Shell(settings, tmp_path)


@pytest.fixture
def player(settings: Settings) -> Iterator[Player]:
    player = Player(settings)
    yield player
    player.close()


def commit(player: Player, error: SchemaMismatch | None = None) -> None:
    wait_until(lambda: player.waiting("prices"))
    player.commit_all("prices", error=error)


def test_append_takes_csv_parquet_and_json_lines_from_files_and_stdin(
    shell: Shell, player: Player
) -> None:
    (shell.folder / "a.csv").write_text("symbol,price\nA,1.5\nB,\n")
    (shell.folder / "a.jsonl").write_text('{"symbol": "A", "price": 1.5}\n{"symbol": "B"}\n')
    pq.write_table(ROWS, shell.folder / "a.parquet")
    for arguments, stdin in [
        (["a.csv", "--json"], b""),
        (["a.jsonl"], b""),
        (["a.parquet"], b""),
        (["-", "--format", "csv"], b"symbol,price\nA,1\n"),
    ]:
        code, out, err = shell.run(
            "append", "prices", *arguments, worker=lambda: commit(player), stdin=stdin
        )
        assert (code, err) == (0, "")
        if "--json" in arguments:
            assert json.loads(out)["version"] == 7
        else:
            assert b"prices: version 7" in out


def test_read_writes_what_is_asked_for(shell: Shell, player: Player) -> None:
    def answer() -> None:
        player.answer(next_query(player), rows=ROWS)

    assert shell.run("read", "prices", worker=answer)[1] == b'"symbol","price"\n"A",1.5\n"B",\n'
    lines = shell.run("read", "prices", "--json", worker=answer)[1].splitlines()
    assert [json.loads(line) for line in lines] == ROWS.to_pylist()
    assert b"symbol" in shell.run("read", "prices", "--format", "table", worker=answer)[1]
    assert shell.run("read", "prices", "-o", "x.parquet", worker=answer)[0] == 0
    assert pq.read_table(shell.folder / "x.parquet").equals(ROWS)


def test_tables_and_history_are_listed(shell: Shell, player: Player) -> None:
    listed = shell.run("tables", worker=lambda: player.answer(next_query(player), value=["a", "b"]))
    assert listed[:2] == (0, b"a\nb\n")
    rows = pa.table({"version": [1], "operation": ["WRITE"], "other": [1]})
    history = shell.run(
        "history", "prices", worker=lambda: player.answer(next_query(player), rows=rows)
    )
    assert history[:2] == (0, b'"version","operation"\n1,"WRITE"\n')


def test_an_error_is_one_line_and_an_exit_code(shell: Shell, player: Player) -> None:
    (shell.folder / "a.csv").write_text("symbol\nA\n")
    mismatch = SchemaMismatch("no column symbol")
    failed = shell.run("append", "prices", "a.csv", worker=lambda: commit(player, mismatch))
    assert failed == (1, b"", "deltaq: no column symbol\n")
    code, _, err = shell.run("append", "../x", "a.csv")
    assert (code, err.count("\n")) == (1, 1)
    code, _, err = shell.run("append", "prices", "none.csv")
    assert (code, err.count("\n"), "none.csv" in err) == (1, 1, True)
    code, _, err = shell.run("tables", "--timeout", "0.01")
    assert (code, err.count("\n")) == (4, 1)
    assert shell.run("append", "prices")[0] == 2
    code, _, err = shell.run("tables", "--redis-url", "unix:///nowhere/s")
    assert (code, err.count("\n")) == (3, 1)
    del shell.env["DELTAQ_LAKE"]
    code, _, err = shell.run("tables")
    assert (code, err.count("\n"), "DELTAQ_LAKE" in err) == (2, 1, True)
    assert "Traceback" in shell.run("--debug", "tables")[2]


def test_every_verb_explains_itself_with_an_example(shell: Shell) -> None:
    assert b"Exit codes: 0 done" in shell.run("--help")[1]
    for verb in ("append", "read", "history", "tables"):
        assert f"Example: deltaq {verb}".encode() in shell.run(verb, "--help")[1]
