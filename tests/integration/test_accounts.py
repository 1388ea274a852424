"""The accounts of deploy/redis/users.acl, on an encrypted server that asks for certificates."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from deltaq.client import AsyncClient, Client, gather
from deltaq.tasks import keys
from deltaq.tasks.broker import make_celery
from deltaq.tasks.connection import Scripts
from deltaq.tasks.errors import (
    ConfigurationError,
    QueueUnavailable,
    RequestCancelled,
    SchemaMismatch,
)
from deltaq.tasks.request import Lane
from deltaq.tasks.settings import load_settings
from deltaq.tasks.workers import read_workers
from deltaq.worker.doctor.finding import Level
from deltaq.worker.doctor.service import check_service
from tests.support.programs import environment
from tests.support.tls_redis import USERS, TlsRedis, tls_redis
from tests.support.waiting import wait_until

ROWS = pa.table({"id": [1, 2], "name": ["rows-do-not-pass-by-here", "b"]})

#: What a client runs besides its two scripts, and what for.
BESIDES = {
    *("ping", "info", "eval", "evalsha", "script|load"),  # to connect, and to run scripts
    *("hmget", "subscribe", "unsubscribe"),  # to hear of outcomes and commits
    "mget",  # how far a backfill is
    *("smembers", "hget", "xlen", "xrange", "time", "zrange", "get"),  # the status
    *("lpush", "llen", "sadd", "smembers", "multi", "exec"),  # Celery, to send
}
_CALL = re.compile(r"redis\.call\('(\w+)'")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedis]:
    with tls_redis() as server:
        yield server


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, server: TlsRedis) -> Iterator[Path]:
    """A lake with a worker, which has the worker's account."""
    folder = tmp_path_factory.mktemp("accounts")
    log, lake = folder / "worker.log", folder / "lake"
    given = {f"DELTAQ_{n.upper()}": v for n, v in server.settings("worker").items()}
    env = environment(DELTAQ_LAKE=str(lake), DELTAQ_SPARK="off", **given)
    with log.open("wb") as output:
        command = [sys.executable, "-m", "deltaq.worker", "worker"]
        worker = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    try:
        wait_until(lambda: "serves" in log.read_text(), within=60, saying=log.read_text)
        yield lake
    finally:
        worker.terminate()
        code = worker.wait(60)
    said = log.read_text()
    assert code == 0, said
    assert "-secret" not in said


@pytest.fixture
def client(server: TlsRedis, lake: Path) -> Iterator[Client]:
    with Client(lake=lake, **server.settings("client")) as client:
        yield client


def refused(server: TlsRedis) -> list[Any]:
    """List what the server refused since the last time, and forget it."""
    with server.connect("admin") as admin:
        log: Any = admin.acl_log()
        admin.acl_log_reset()
    return [(entry["username"], entry["object"], entry["context"]) for entry in log]


def granted(account: str) -> set[str]:
    (line,) = (row for row in USERS.read_text().splitlines() if f"deltaq-{account} " in row)
    return {word[1:] for word in line.split() if word.startswith("+")}


def called(*scripts: str) -> set[str]:
    folder = resources.files("deltaq.tasks") / "lua"
    texts = [(folder / f"{name}.lua").read_text() for name in scripts]
    return {command.lower() for text in texts for command in _CALL.findall(text)}


@pytest.mark.timeout(120)
def test_a_client_account_does_all_that_a_client_can(client: Client, server: TlsRedis) -> None:
    refused(server)
    watch = client.watch("t", from_version=0)
    client.append("t", ROWS).result(30)
    assert watch.next(timeout=30).version == 0
    watch.close()
    client.append("t", ROWS, lane="bulk").result(30)
    futures = [
        client.merge("t", ROWS, keys="id"),
        client.overwrite("t", ROWS),
        client.delete("t", where="id = 1"),
        client.optimize("t"),
    ]
    gather(futures, timeout=60)
    assert client.read("t", after=futures).result(30).num_rows == 1
    assert sum(batch.num_rows for batch in client.scan("t")) == 1
    assert client.sql("select count(*) as n from t").result(30).to_pydict() == {"n": [1]}
    assert client.exists("t")
    assert client.tables() == ["t"]
    assert client.detail("t")["version"] == client.history("t")["version"][0].as_py()
    assert client.status() == []
    with server.connect("client") as ours:
        assert [worker.is_lost for worker in read_workers(ours)] == [False]
    found = client.outcome("t", futures[0].request_id)
    assert found is not None
    assert found.state == "committed"
    wrong = client.append("t", pa.table({"id": ["no number"]}))
    assert isinstance(wrong.exception(30), SchemaMismatch)
    wait_until(lambda: client.dead_letters("t"))
    (again,) = client.redrive([wrong.request_id])
    assert isinstance(again.exception(30), SchemaMismatch)
    assert refused(server) == []


async def _asked(lake: Path, settings: dict[str, Any]) -> int:
    async with AsyncClient(lake=lake, **settings) as client:
        await (await client.append("a", ROWS))
        rows: pa.Table = await client.read("a")
        return int(rows.num_rows)


@pytest.mark.timeout(120)
def test_a_client_account_may_backfill(client: Client, server: TlsRedis, tmp_path: Path) -> None:
    refused(server)
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    future = client.backfill("loaded", [tmp_path / "rows.parquet"], upload=True)
    assert client.backfill_progress(future.request_id).table == "loaded"
    assert future.result(60).rows == 2
    assert refused(server) == []


@pytest.mark.timeout(60)
def test_so_does_one_of_an_event_loop(server: TlsRedis, lake: Path) -> None:
    refused(server)
    assert asyncio.run(_asked(lake, server.settings("client"))) == 2
    assert refused(server) == []


def test_a_client_account_can_cancel_what_no_worker_has_begun_with(
    client: Client, server: TlsRedis
) -> None:
    with server.connect("admin") as admin:
        admin.hset(keys.lease("held"), mapping={"token": "t", "fence": 1, "holder": "somebody"})
        future = client.append("held", ROWS)
        assert [(s.table, s.holder) for s in client.status()] == [("held", "somebody")]
        assert future.cancel()
        admin.delete(keys.lease("held"))
    with pytest.raises(RequestCancelled):
        future.result(10)
    assert refused(server) == []


def test_a_client_account_cannot_take_a_lease_or_acknowledge(
    client: Client, server: TlsRedis, tmp_path: Path
) -> None:
    lease, seq = keys.lease("x"), keys.seq("x")
    inbox = keys.inbox("x", Lane.LIVE)
    with server.connect("admin") as admin, server.connect("client") as ours:
        scripts = Scripts(ours)
        with pytest.raises(ConfigurationError, match="may not do this"):
            scripts.run("take", [lease, seq, keys.wake("x")], ["mine", 9000, "me", *Lane])
        # Whoever may see the status sees the token, too: that must not be enough.
        admin.hset(lease, mapping={"token": "seen", "fence": 1, "holder": "somebody"})
        admin.xadd(inbox, {"r": "{}"}, id="1-0")
        with pytest.raises(ConfigurationError, match="may not do this"):
            scripts.run("acknowledge", [lease, inbox, seq], ["seen", "live", 1, 0, 9])
        for script, given in (
            ("renew", ([lease], ["seen", 9000])),
            (
                "release",
                ([lease, keys.wake("x"), keys.TABLES, seq, inbox], ["seen", "x", 1, 1, "live"]),
            ),
        ):
            with pytest.raises(ConfigurationError, match="may not do this"):
                scripts.run(script, *given)
        assert admin.xlen(inbox) == 1
        assert admin.hget(lease, "token") == "seen"
        admin.delete(lease, inbox, seq)
    refused(server)


LEASE = keys.lease("t")


@pytest.mark.parametrize(
    "command",
    [
        *(f"HSET {LEASE} token mine", f"DEL {LEASE}", f"EXPIRE {LEASE} 9", "SET dq:run x"),
        *("XTRIM dq:{t}:inbox:live MAXLEN 0", "HDEL dq:{t}:seq epoch", "SREM dq:tables t"),
        *("KEYS *", "SCAN 0", "RANDOMKEY", "GET other", "SET other x", "DUMP dq:tables"),
        *("CONFIG GET *", "CONFIG SET maxmemory 1", "FLUSHALL", "FLUSHDB", "DEBUG SLEEP 0"),
        *("ACL LIST", "ACL SETUSER x", "SCRIPT FLUSH", "SCRIPT KILL", "FUNCTION FLUSH"),
        *("CLIENT LIST", "CLIENT KILL ID 1", "MONITOR", "SHUTDOWN", "SAVE", "BGREWRITEAOF"),
        *("REPLICAOF no one", "MODULE LIST", "SLOWLOG GET", "SWAPDB 0 1", "COPY dq:tables x"),
        *("PSUBSCRIBE dq:client:*", "PUBSUB CHANNELS", "SUBSCRIBE /0.celeryev/worker.online"),
        *("PUBLISH /0.celery.pidbox x", "LPUSH other.queue x", "BRPOP deltaq.commits 1"),
        *("LRANGE deltaq.reads 0 -1", "SREM _kombu.binding.deltaq.commits x"),
    ],
)
def test_what_a_client_account_may_not(command: str, server: TlsRedis) -> None:
    with server.connect("admin") as admin:
        admin.config_set("acllog-max-len", 0)
        words = command.split(" ")
        answer: Any = admin.execute_command("ACL", "DRYRUN", "deltaq-client", *words)
        assert "no permission" in str(answer), answer


def test_a_client_account_can_be_kept_to_the_queues_of_some_tables(server: TlsRedis) -> None:
    (line,) = (row for row in USERS.read_text().splitlines() if "deltaq-client " in row)
    _, _, *rules = line.replace("{*}", "{sales.*}").split()
    with server.connect("admin") as admin:
        admin.execute_command("ACL", "SETUSER", "sales", *rules)
        for table, expected in (("sales.eu", "OK"), ("orders", "no permission")):
            command = ("HINCRBY", keys.seq(table), "live", "1")
            answer: Any = admin.execute_command("ACL", "DRYRUN", "sales", *command)
            assert expected in str(answer)
        admin.acl_deluser("sales")


@pytest.mark.parametrize(
    "command",
    [
        *("KEYS *", "CONFIG SET maxmemory 1", "CONFIG REWRITE", "FLUSHALL", "FLUSHDB", "ACL LIST"),
        *("DEBUG SLEEP 0", "SCRIPT FLUSH", "MONITOR", "SHUTDOWN", "REPLICAOF no one"),
        *("MODULE LIST", "CLIENT KILL ID 1", "GET other", "SET other x"),
    ],
)
def test_what_a_worker_account_may_not(command: str, server: TlsRedis) -> None:
    with server.connect("admin") as admin:
        words = command.split(" ")
        answer: Any = admin.execute_command("ACL", "DRYRUN", "deltaq-worker", *words)
        assert "no permission" in str(answer), answer


def test_a_client_account_has_the_commands_of_its_scripts_and_few_besides() -> None:
    assert granted("client") == called("submit", "cancel") | BESIDES


def test_a_worker_account_has_the_commands_of_all_scripts() -> None:
    scripts = resources.files("deltaq.tasks") / "lua"
    names = [file.name.removesuffix(".lua") for file in scripts.iterdir()]
    assert called(*names) - granted("worker") == set()


@pytest.mark.timeout(60)
def test_a_worker_account_is_enough_for_the_doctor(server: TlsRedis, lake: Path) -> None:
    refused(server)
    settings = load_settings(lake=lake, spark="off", **server.settings("worker"))
    found = list(check_service(settings))
    assert [finding for finding in found if finding.level is Level.ERROR] == []
    assert "worker-secret" not in str(found)
    assert refused(server) == []


@pytest.mark.timeout(60)
def test_flowers_account_sees_workers_and_their_events(server: TlsRedis, lake: Path) -> None:
    refused(server)
    app = make_celery(load_settings(lake=lake, **server.settings("flower")))
    heard: list[str] = []
    try:
        assert len(app.control.ping(timeout=10, limit=1)) == 1
        with app.connection() as connection:
            receiver = app.events.Receiver(
                connection, handlers={"worker-heartbeat": lambda event: heard.append(event["type"])}
            )
            for _ in receiver.itercapture(limit=1, timeout=20, wakeup=True):
                pass
    finally:
        app.close()
    assert refused(server) == []


def test_no_row_passes_through_redis(client: Client, server: TlsRedis) -> None:
    client.append("t", ROWS).result(30)
    client.read("t").result(30)
    log = b"".join(file.read_bytes() for file in server.folder.glob("appendonlydir/*"))
    assert b"dq:{t}:inbox:live" in log
    assert b"rows-do-not-pass-by-here" not in log


@pytest.mark.parametrize("missing", ["redis_ca_file", "redis_cert_file", "redis_password"])
def test_without_certificate_or_password_nobody_gets_in(
    missing: str, server: TlsRedis, tmp_path: Path
) -> None:
    given = server.settings("client")
    del given[missing]
    if missing == "redis_cert_file":
        del given["redis_key_file"]
    with (
        Client(lake=tmp_path, redis_timeout=0.5, **given) as client,
        pytest.raises(QueueUnavailable) as caught,
    ):
        client.append("t", ROWS)
    assert "secret" not in str(caught.value)
    refused(server)


def test_the_default_account_is_off(server: TlsRedis) -> None:
    given = server.settings("client")
    url = given.pop("redis_url").replace("deltaq-client@", "")
    files = {f"ssl_{to}": given[f"redis_{n}"] for n, to in _FILES.items()}
    with redis.Redis.from_url(url, **files) as nobody, pytest.raises(redis.RedisError):
        nobody.ping()


_FILES = {"ca_file": "ca_certs", "cert_file": "certfile", "key_file": "keyfile"}
