"""The verbs of operators, as a shell runs them; the test plays the worker."""

from __future__ import annotations

import json
import signal
from typing import Any

import pyarrow as pa
import pytest

from deltaq.client import Client, SchemaMismatch
from deltaq.client.look import Watcher
from deltaq.tasks.settings import Settings
from deltaq.worker.outcomes import bury
from tests.support.player import Player
from tests.support.shell import Shell
from tests.support.waiting import wait_until


@pytest.fixture
def order(client: Client, player: Player) -> str:
    """A request on table prices that was given up; its id."""
    client.append("prices", pa.table({"n": [1, 2]}), request_id="order-1")
    staged = player.staging.request_path("prices", "order-1")
    content = staged.read_bytes()
    player.commit_all("prices", error=SchemaMismatch("no column n\nin the table"))
    staged.write_bytes(content)
    (outcome,) = player.inbox.outcomes([("prices", "order-1")])
    bury(player.staging, outcome)  # type: ignore[arg-type]
    return "order-1"


def test_status_is_a_line_for_each_table(shell: Shell, client: Client, player: Player) -> None:
    assert shell.run("status") == (0, b"", "no requests wait\nno worker is alive\n")
    client.append("prices", pa.table({"n": [1]}))
    client.append("prices", pa.table({"n": [1]}), lane="bulk")
    player.lease("prices")
    player.inbox.note_retry("prices", "disk full", first=30.0, longest=60.0, token="player")

    code, out, _ = shell.run("status")
    told = json.loads(shell.run("status", "--json")[1])

    (line,) = out.decode().splitlines()
    assert code == 0
    assert line.startswith("prices: 1 live, 1 bulk; 0.0 MiB; oldest ")
    assert "; held by test; failed 1 times in " in line
    assert line.endswith(" s: disk full")
    assert told[0]["lanes"]["bulk"]["requests"] == 1
    assert told[0]["retrying"]["error"] == "disk full"


def test_status_is_watched_until_ctrl_c(shell: Shell, client: Client, player: Player) -> None:
    client.append("prices", pa.table({"n": [1]}))
    with shell.start("status", "--watch", "--interval", "0.1") as watching:
        lines = iter(watching.stdout or ())
        assert b" prices: 1 live; " in next(lines)
        player.commit_all("prices")
        wait_until(lambda: b" prices: none wait; " in next(lines))
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0


def test_status_counts_what_was_settled_since_the_last_look(
    client: Client, player: Player, settings: Settings
) -> None:
    with Watcher(settings) as watcher:
        client.append("prices", pa.table({"n": [1]}))
        assert watcher.look().rates == {}
        player.commit_all("prices")
        look = watcher.look()
        assert [(t.table, t.lanes) for t in look.tables] == [("prices", {})]
        assert look.rates["prices"] > 0
        watcher.look()
        assert watcher.look().tables == []


def test_dead_letters_are_listed_and_shown(shell: Shell, order: str) -> None:
    listed = [shell.run("dead-letters", *more)[1].decode() for more in ([], ["list"])]
    assert listed[0] == listed[1]
    assert f"  prices  {order}  append  no column n in the table\n" in listed[0]
    facts = json.loads(shell.run("dead-letters", "--json", "--table", "prices")[1])
    assert (facts["request_id"], facts["error"]["code"]) == (order, "schema_mismatch")
    assert shell.run("dead", "list", "--table", "u") == (0, b"", "no dead letters\n")

    code, out, err = shell.run("dead-letters", "show", order, "--rows", "1")

    assert (code, err) == (0, "")
    assert "schema: n int64\n" in out.decode()
    assert "no column n\nin the table [schema_mismatch]" in out.decode()
    assert '"op":"append"' in out.decode()
    assert json.loads(shell.run("dead-letters", "show", order, "--json")[1])["schema"] == [
        ["n", "int64"]
    ]
    code, _, err = shell.run("dead-letters", "show", "order-2")
    assert (code, "there is no dead letter order-2" in err) == (1, True)


def test_a_damaged_dead_letter_is_shown_with_what_is_wrong(
    shell: Shell, order: str, player: Player
) -> None:
    player.staging.dead_path("prices", order).write_bytes(b"damaged")

    assert b"unreadable" in shell.run("dead-letters")[1]
    code, out, err = shell.run("dead-letters", "show", order)

    assert (code, err) == (0, "")
    assert b"problem: " in out
    assert b"not a whole Parquet file" in out


def test_redrive_says_what_it_would_do_and_what_it_did(
    shell: Shell, order: str, player: Player
) -> None:
    assert shell.run("redrive")[0] == 2
    for which in (["--all"], ["--table", "prices"], [order]):
        assert shell.run("redrive", *which, "--dry-run") == (
            0,
            b"prices order-1: would be submitted anew\n",
            "",
        )
    assert player.waiting("prices") == []

    def commit() -> None:
        wait_until(lambda: player.waiting("prices"))
        player.commit_all("prices")

    assert shell.run("redrive", "--all", worker=commit) == (
        0,
        b"prices order-1: committed in version 7\n",
        "",
    )
    assert shell.run("redrive", "--all") == (0, b"", "no dead letters\n")


def test_redrive_fails_when_a_request_fails_again(shell: Shell, order: str, player: Player) -> None:
    def refuse() -> None:
        wait_until(lambda: player.waiting("prices"))
        player.commit_all("prices", error=SchemaMismatch("no column n"))

    assert shell.run("redrive", order, worker=refuse) == (1, b"", "prices order-1: no column n\n")


def test_a_watch_in_a_pipe_prints_what_has_changed(
    shell: Shell, client: Client, player: Player
) -> None:
    with shell.start("top", "--interval", "0.1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stderr.readline().decode().partition(" ")[2] for _ in range(2)]
        looks = _looks(player)
        wait_until(lambda: _looks(player) > looks + 5)

        client.append("prices", pa.table({"n": [1]}))

        assert b" prices: 1 live" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
    assert lines == ["no requests wait\n", "no worker is alive\n"]
    assert rest == b""


def _looks(player: Player) -> int:
    found: Any = player.client.info("commandstats")
    return int(found.get("cmdstat_zrange", {}).get("calls", 0))


def test_who_waits_for_room_is_told(shell: Shell, client: Client) -> None:
    client.append("prices", pa.table({"n": [1]}))
    (shell.folder / "rows.csv").write_text("n\n1\n")
    shell.env["DELTAQ_INBOX_MAX_REQUESTS"] = "1"

    code, _, told = shell.run("append", "prices", "rows.csv", "--timeout", "1.5")

    waiting, refused = told.splitlines()
    assert code == 1
    assert waiting.startswith("deltaq: waiting for room, 1.5 s at most: ")
    assert "waited 1.5 s for room" in refused
