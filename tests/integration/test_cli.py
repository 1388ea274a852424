"""The verbs of users, as a shell runs them; the test plays the worker."""

from __future__ import annotations

import json
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deltaq.tasks.errors import SchemaMismatch
from deltaq.tasks.location import create
from deltaq.tasks.query import Sql
from deltaq.tasks.request import Column, Create, Lane, operation_of
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.lake import Lake
from tests.integration.test_client import next_query
from tests.support.applying import Applier
from tests.support.player import Player
from tests.support.reading import ReadingWorker
from tests.support.shell import Shell
from tests.support.waiting import wait_until

ROWS = pa.table({"symbol": ["A", "B"], "price": [1.5, None]})


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


def test_sql_writes_the_rows_of_a_select(shell: Shell, player: Player) -> None:
    text = "select symbol, price from prices order by symbol"

    def answer() -> None:
        query = next_query(player)
        assert isinstance(query, Sql)
        assert (query.text, query.max_rows) == (text, 5)
        player.answer(query, rows=ROWS)

    code, out, _ = shell.run("sql", text, "--max-rows", "5", "--json", worker=answer)

    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == ROWS.to_pylist()


def test_tables_and_history_are_listed(shell: Shell, player: Player) -> None:
    listed = shell.run("tables", worker=lambda: player.answer(next_query(player), value=["a", "b"]))
    assert listed[:2] == (0, b"a\nb\n")
    rows = pa.table({"version": [1], "operation": ["WRITE"], "other": [1]})
    history = shell.run(
        "history", "prices", worker=lambda: player.answer(next_query(player), rows=rows)
    )
    assert history[:2] == (0, b'"version","operation","other"\n1,"WRITE",1\n')


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


def test_each_way_to_write_asks_for_what_its_options_say(shell: Shell, player: Player) -> None:
    (shell.folder / "a.csv").write_text("symbol,price\nA,1.5\nB,\n")
    merge = ["--key", "symbol", "--no-update", "--delete-when", "price = 0", "--engine", "native"]
    cases: list[tuple[str, list[str], dict[str, object]]] = [
        ("overwrite", ["a.csv", "--where", "price > 0"], {"where": "price > 0"}),
        ("merge", ["a.csv", *merge], {"keys": ("symbol",), "update": (), "engine": "native"}),
        ("merge", ["a.csv", "-k", "symbol", "--update", "price"], {"update": ("price",)}),
        ("merge", ["a.csv", "-k", "symbol", "--no-insert"], {"insert": False, "update": None}),
        ("delete", ["--where", "price > 1", "--request-id", "d-1"], {"request_id": "d-1"}),
    ]
    for verb, arguments, wanted in cases:
        code, out, err = shell.run(verb, "prices", *arguments, "--no-wait")
        (request,) = player.waiting("prices")
        assert (code, out.decode(), err) == (0, f"{request.request_id}\n", "")
        assert operation_of(request) == verb
        assert {name: getattr(request, name) for name in wanted} == wanted
        player.commit_all("prices")


def test_each_verb_of_tables_asks_for_what_its_options_say(shell: Shell, player: Player) -> None:
    columns = ["-c", "symbol string not null", "-c", "price  decimal(10, 2)"]
    described = [*columns, "--partition-by", "symbol", "--property", "a=b=c", "--comment", "shown"]
    cases: list[tuple[str, list[str], Lane, dict[str, object]]] = [
        ("create", described, Lane.LIVE, {"partition_by": ("symbol",), "comment": "shown"}),
        ("create", described, Lane.LIVE, {"properties": {"a": "b=c"}}),
        ("restore", ["--version", "3"], Lane.LIVE, {"version": 3, "timestamp": None}),
        (
            *("restore", ["--timestamp", "2024-05-31"], Lane.LIVE),
            {"timestamp": "2024-05-31T00:00:00+00:00"},
        ),
        ("optimize", ["--zorder", "symbol"], Lane.MAINTENANCE, {"zorder": ("symbol",)}),
        (
            "optimize",
            ["--where", "day < 3", "--target-bytes", "65536"],
            Lane.MAINTENANCE,
            {"where": "day < 3", "target_bytes": 65536},
        ),
        (
            *("vacuum", ["--retention-hours", "1", "--force", "--dry-run"], Lane.MAINTENANCE),
            {"retention_hours": 1, "force": True, "dry_run": True},
        ),
        ("drop", ["--confirm", "prices"], Lane.LIVE, {}),
    ]
    for verb, arguments, lane, wanted in cases:
        code, out, err = shell.run(verb, "prices", *arguments, "--no-wait")
        (request,) = player.waiting("prices", lane)
        assert (code, out.decode(), err) == (0, f"{request.request_id}\n", "")
        assert operation_of(request) == verb
        assert {name: getattr(request, name) for name in wanted} == wanted
        if isinstance(request, Create):
            assert request.columns == (
                Column(name="symbol", type="string", nullable=False),
                Column(name="price", type="decimal(10, 2)"),
            )
        player.commit_all("prices", lane)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create", "prices", "-c", "symbol"], 2, "'symbol' is no 'NAME TYPE'"),
        (["create", "prices", "-c", "a int", "-c", "a int"], 2, "two columns have the same name"),
        (["create", "prices", "-c", "a int", "--property", "x"], 2, "'x' is no NAME=VALUE"),
        (["restore", "prices"], 2, "either --version or --timestamp"),
        (["vacuum", "prices", "--retention-hours", "1"], 1, "168"),
        (["drop", "prices"], 2, "--confirm"),
        (["drop", "prices", "--confirm", "price"], 1, "confirm='prices'"),
    ],
)
def test_a_verb_of_tables_that_cannot_be_meant_is_refused(
    shell: Shell, player: Player, arguments: list[str], code: int, said: str
) -> None:
    ended, out, err = shell.run(*arguments)

    assert (ended, out) == (code, b"")
    assert said in err
    assert not any(player.waiting("prices", lane) for lane in Lane)


def test_commits_are_watched_until_so_many_came_or_none_did(
    shell: Shell, worker: ReadingWorker, settings: Settings
) -> None:
    engine = NativeEngine(Lake(settings.lake), StagingArea(settings.staging_root))
    prices = Applier(engine, settings.lake)
    prices.append(ROWS)
    prices.delete("price > 1")
    begin = ["watch", "prices", "--from-version", "0"]

    code, out, err = shell.run(*begin, "--count", "2", "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [(commit["version"], commit["rows"]) for commit in told] == [(0, 2), (1, 1)]

    lines = shell.run(*begin, "price", "--timeout", "0.3")
    assert lines[0] == 0
    assert lines[2] == "no table price yet (did you mean 'prices'?); waiting for it\n"
    assert lines[1].startswith(b"prices: version 0, append, 2 rows, ")

    code, _, err = shell.run(*begin, "--timeout", "0.3", "--count", "3")
    assert (code, err) == (4, "deltaq: 2 of 3 commits to prices, and then none for 0.3 s\n")


@pytest.mark.slow
def test_who_watches_where_no_worker_runs_is_told_so(shell: Shell) -> None:
    code, out, err = shell.run("watch", "prices", "--count", "1", "--timeout", "0.1")

    assert (code, out) == (4, b"")
    assert err == "deltaq: no answer to tables within 10 s: does a worker run that serves reads?\n"


def test_who_watches_leaves_with_ctrl_c(shell: Shell, worker: ReadingWorker) -> None:
    with shell.start("watch", "prices") as watching:
        # It asks where the table is, and then waits.
        wait_until(lambda: worker.answered)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0


def test_an_outcome_can_be_asked_for_later(shell: Shell, player: Player) -> None:
    (shell.folder / "a.csv").write_text("symbol\nA\n")
    shell.run("append", "prices", "a.csv", "--request-id", "good", "--no-wait")
    code, out, _ = shell.run("outcome", "prices", "good")
    assert (code, out) == (4, b"prices: append queued\n")
    assert json.loads(shell.run("outcome", "prices", "good", "--json")[1])["state"] == "queued"

    waited = shell.run(
        "outcome", "prices", "good", "--timeout", "20", worker=lambda: commit(player)
    )
    assert waited[0] == 0
    assert b"prices: version 7" in waited[1]

    shell.run("append", "prices", "a.csv", "--request-id", "bad", "--no-wait")
    commit(player, SchemaMismatch("no column symbol"))
    assert shell.run("outcome", "prices", "bad") == (1, b"", "deltaq: no column symbol\n")
    code, out, _ = shell.run("outcome", "prices", "bad", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, "schema_mismatch")
    code, _, err = shell.run("outcome", "prices", "never")
    assert (code, "never submitted" in err) == (1, True)


def test_a_queued_request_is_cancelled_and_a_settled_one_is_not(
    shell: Shell, player: Player
) -> None:
    (shell.folder / "a.csv").write_text("symbol\nA\n")
    for name in ("first", "second"):
        shell.run("append", "prices", "a.csv", "--request-id", name, "--no-wait")

    code, out, _ = shell.run("cancel", "prices", "first")
    assert (code, b"first cancelled" in out) == (0, True)
    assert [request.request_id for request in player.waiting("prices")] == ["second"]
    player.commit_all("prices")
    assert shell.run("cancel", "prices", "second")[0] == 1
    assert json.loads(shell.run("cancel", "prices", "second", "--json")[1]) == {"cancelled": False}


def test_who_stops_waiting_is_told_how_to_ask_again(shell: Shell) -> None:
    (shell.folder / "a.csv").write_text("symbol\nA\n")

    code, _, err = shell.run("append", "prices", "a.csv", "--request-id", "a", "--timeout", "0.2")

    assert code == 4
    assert "it goes on, ask with: deltaq outcome prices a" in err


def test_with_json_an_error_is_json_too(shell: Shell, player: Player) -> None:
    (shell.folder / "a.csv").write_text("symbol\nA\n")
    mismatch = SchemaMismatch("no column symbol")

    code, out, err = shell.run(
        "append", "prices", "a.csv", "--json", worker=lambda: commit(player, mismatch)
    )

    assert (code, out) == (1, b"")
    told = json.loads(err)
    assert (told["code"], told["retryable"], told["table"]) == ("schema_mismatch", False, "prices")


def test_nested_values_and_bytes_are_written_in_every_format(shell: Shell, player: Player) -> None:
    rows = pa.table({"list": [[1, 2], None], "bytes": [b"\xff", None]})

    def answer() -> None:
        player.answer(next_query(player), rows=rows)

    assert shell.run("read", "prices", worker=answer)[1] == b'"list","bytes"\n"[1, 2]","/w=="\n,\n'
    lines = shell.run("read", "prices", "--json", worker=answer)[1].splitlines()
    assert json.loads(lines[0]) == {"list": [1, 2], "bytes": "/w=="}
    assert b"[1, 2]" in shell.run("read", "prices", "--format", "table", worker=answer)[1]


def test_a_mistake_in_the_command_is_told_with_what_may_be_meant(shell: Shell) -> None:
    (shell.folder / "a.csv").write_text("symbol\nA\n")
    code, _, err = shell.run("merge", "prices", "a.csv", "--key", "symbl")
    assert (code, "'symbl' (did you mean 'symbol'?)" in err) == (1, True)
    for arguments, meant in [
        (["raed", "prices"], "Did you mean 'read'"),
        (["read", "prices", "--limt", "1"], "--limit"),
        (["config", "--lkae", "x"], "--lake"),
    ]:
        code, out, err = shell.run(*arguments)
        assert (code, out, meant in err, "Traceback" in err) == (2, b"", True, False)
    shell.env["DELTAQ_REDIS_ULR"] = "redis://nowhere"
    code, _, err = shell.run("tables")
    assert (code, "did you mean 'DELTAQ_REDIS_URL'?" in err) == (2, True)


def test_a_reader_of_a_pipe_that_has_enough_is_no_error(shell: Shell, player: Player) -> None:
    rows = pa.table({"n": list(range(200_000))})
    with shell.start("read", "prices") as reading:
        player.answer(next_query(player), rows=rows)
        assert reading.stdout is not None
        assert reading.stderr is not None
        assert reading.stdout.readline() == b'"n"\n'
        reading.stdout.close()
        assert reading.stderr.read() == b""
        reading.wait(20)


def test_config_tells_where_each_setting_comes_from_and_no_secret(shell: Shell) -> None:
    (shell.folder / "deltaq.toml").write_text('# mine\nengine = "native"\n')
    shell.env["DELTAQ_BROKER_URL"] = "redis://user:hidden@localhost/1"

    code, out, err = shell.run("config", "--lake", "elsewhere")

    assert (code, err) == (0, "")
    lines = {line.split()[0]: line.split()[1:] for line in out.decode().splitlines()[3:-1]}
    assert lines["lake"] == [str(shell.folder / "elsewhere"), "argument"]
    assert lines["engine"] == ["native", "deltaq.toml:2"]
    assert lines["broker_url"] == ["redis://user:***@localhost/1", "DELTAQ_BROKER_URL"]
    assert lines["lease_ttl"] == ["5.0", "default"]
    told = {s["name"]: s for s in json.loads(shell.run("config", "--json")[1])}
    assert told["lake"]["source"] == "DELTAQ_LAKE"
    assert "hidden" not in json.dumps(told)


def test_a_shell_completes_verbs_and_tables(shell: Shell, settings: Settings) -> None:
    for table in ("prices", "quotes"):
        with create(settings.lake / table / "_delta_log" / f"{0:020d}.json") as entry:
            entry.write(b"{}")
    shell.env["_DELTAQ_COMPLETE"] = "complete_bash"
    for words, wanted in [("deltaq des", "describe"), ("deltaq read pr", "prices")]:
        shell.env.update(COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
        assert shell.run()[1].decode().split() == [wanted]


def test_ctrl_c_ends_the_wait_and_not_the_request(shell: Shell, player: Player) -> None:
    (shell.folder / "a.csv").write_text("symbol\nA\n")
    with shell.start("append", "prices", "a.csv", "--request-id", "a") as appending:
        wait_until(lambda: player.waiting("prices"))
        appending.send_signal(signal.SIGINT)
        _, err = appending.communicate(timeout=20)

    assert appending.returncode == 130
    # It may come an instant before the wait begins.
    assert err in (b"", b"deltaq: no longer waiting; the append goes on: deltaq outcome prices a\n")
    assert [request.request_id for request in player.waiting("prices")] == ["a"]
