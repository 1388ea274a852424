"""A redis-server that is encrypted and has the accounts of deploy/redis/users.acl."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.support.pages import ROOT
from tests.support.waiting import wait_until

USERS = ROOT / "deploy" / "redis" / "users.acl"
PASSWORDS = {account: f"{account}-secret" for account in ("client", "worker", "flower", "admin")}
_ADMIN = f"user admin on >{PASSWORDS['admin']} ~* &* +@all\n"


class TlsRedis:
    """Encrypted, on a free port of this machine; it asks its clients for certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def settings(self, account: str) -> dict[str, Any]:
        """Name the settings of somebody who uses an account."""
        user = account if account == "admin" else f"deltaq-{account}"
        return {
            "redis_url": f"rediss://{user}@127.0.0.1:{self.port}/0",
            "redis_password": PASSWORDS[account],
            "redis_ca_file": str(self.folder / "ca.crt"),
            "redis_cert_file": str(self.folder / "client.crt"),
            "redis_key_file": str(self.folder / "client.key"),
        }

    def connect(self, account: str) -> redis.Redis:
        given = self.settings(account)
        return redis.Redis.from_url(
            given["redis_url"],
            password=given["redis_password"],
            ssl_ca_certs=given["redis_ca_file"],
            ssl_certfile=given["redis_cert_file"],
            ssl_keyfile=given["redis_key_file"],
            decode_responses=True,
        )

    def answers(self) -> bool:
        with self.connect("admin") as client:
            try:
                return bool(client.ping())
            except redis.exceptions.RedisError:
                return False


@contextmanager
def tls_redis() -> Iterator[TlsRedis]:
    """Run one for the length of a block."""
    folder = Path(tempfile.mkdtemp(prefix="dq-tls-"))
    try:
        _make_certificates(folder)
        server = TlsRedis(folder)
        users = USERS.read_text()
        for account, password in PASSWORDS.items():
            users = users.replace(f"{account.upper()}_PASSWORD", password)
        (folder / "users.acl").write_text(users + _ADMIN)
        options = {
            "port": "0",
            "tls-port": str(server.port),
            "tls-ca-cert-file": "ca.crt",
            "tls-cert-file": "server.crt",
            "tls-key-file": "server.key",
            "aclfile": "users.acl",
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["redis-server", *words, "--dir", folder], cwd=folder, stdout=log, stderr=log
            )
        try:
            wait_until(server.answers, within=20, saying=(folder / "log").read_text)
            yield server
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder)


def _make_certificates(folder: Path) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    ours = ("-x509", "-days", "2", "-CA", "ca.crt", "-CAkey", "ca.key")
    name = ("-addext", "subjectAltName=IP:127.0.0.1")
    for owner, how in (
        ("ca", ("-x509", "-days", "2")),
        ("server", (*ours, *name)),
        ("client", ours),
    ):
        files = ("-keyout", f"{owner}.key", "-out", f"{owner}.crt", "-subj", f"/CN=deltaq {owner}")
        subprocess.run(
            ["openssl", "req", *key, *how, *files], cwd=folder, check=True, capture_output=True
        )
