"""What docker-compose.yml starts, started by the same commands and settings, without containers."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis

from deltaq.client import Client
from deltaq.tasks.settings import load_settings
from tests.support.deploying import DEPLOY, DOCKERFILE, compose, image_environment
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

SERVICES = compose()["services"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Machine:
    """A folder and ports in place of containers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redis_port, self.page_port = free_port(), free_port()
        for name in ("data", "lake", "tmp"):
            (folder / name).mkdir()
        subprocess.run(["sh", DEPLOY / "secrets.sh", folder / "run" / "secrets"], check=True)

    def here(self, text: str) -> str:
        """Write for this machine what was written for a container."""
        for theirs, ours in (
            ("$$", "$"),
            ("/etc/deltaq", str(DEPLOY / "redis")),
            ("/run/secrets", str(self.folder / "run" / "secrets")),
            ("@redis:6379", f"@127.0.0.1:{self.redis_port}"),
            ("redis-cli ", f"redis-cli -p {self.redis_port} "),
            ("9464", str(self.page_port)),
        ):
            text = text.replace(theirs, ours)
        return text

    def environment(self, service: str) -> dict[str, str]:
        """What a service of the image without Spark has."""
        given = {**image_environment("base", "native"), **SERVICES[service]["environment"]}
        outer = {k: v for k, v in os.environ.items() if not k.startswith("DELTAQ_")}
        ours = {name: self.here(value) for name, value in given.items()}
        path = os.pathsep.join([str(Path(sys.executable).parent), outer["PATH"]])
        lake = str(self.folder / "lake")
        return {**outer, **ours, "PATH": path, "DELTAQ_LAKE": lake}

    def client(self, monkeypatch: pytest.MonkeyPatch) -> Client:
        """A client with the account of clients."""
        for name, value in self.environment("client").items():
            monkeypatch.setenv(name, value)
        return Client(load_settings())

    @contextmanager
    def running(self, *command: str, log: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / log).open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, **more)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One on which Redis and a worker run."""
    machine = Machine(tmp_path_factory.mktemp("containers"))
    start = [machine.here(word) for word in SERVICES["redis"]["command"]]
    environment = {
        **os.environ,
        "SECRETS": str(machine.folder / "run" / "secrets"),
        "TMPDIR": str(machine.folder / "tmp"),
    }
    options = ["--port", str(machine.redis_port), "--dir", str(machine.folder / "data")]
    with ExitStack() as stack:
        server = machine.running(*start, *options, log="redis.log", env=environment)
        stack.enter_context(server)
        wait_until(lambda: healthy(machine, "redis"), within=30)
        yield machine


def healthy(machine: Machine, service: str) -> bool:
    kind, test = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    ended = subprocess.run(["sh", "-c", machine.here(test)], capture_output=True, check=False)
    return ended.returncode == 0


def image_check(machine: Machine) -> bool:
    """Run the HEALTHCHECK of the image."""
    (line,) = (ln for ln in DOCKERFILE.read_text().splitlines() if ln.startswith("    CMD ["))
    _, *arguments = shlex.split(machine.here(line.strip(" CMD[]").replace('", "', '" "')))
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    return ended.returncode == 0


def test_redis_is_durable_and_nobody_gets_in_without_an_account(machine: Machine) -> None:
    with (
        redis.Redis(port=machine.redis_port) as stranger,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        stranger.ping()
    password = (machine.folder / "run" / "secrets" / "redis_client_password").read_text()
    with redis.Redis(
        port=machine.redis_port, username="deltaq-client", password=password
    ) as client:
        assert client.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.flushall()


def test_the_worker_of_the_compose_file_serves_clients_and_stops_in_order(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = machine.folder / "worker.log"
    command = ("deltaq", "worker")
    environment = machine.environment("worker")
    with machine.running(*command, log=log.name, env=environment) as worker:
        assert not image_check(machine)
        wait_until(lambda: image_check(machine), within=60, saying=log.read_text)
        with machine.client(monkeypatch) as client:
            future = client.append("prices", pa.table({"symbol": ["IBM"], "price": [1.5]}))
            assert future.result(60).version == 0
            assert client.read("prices").result(60).num_rows == 1
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    assert "may lose" not in log.read_text()
    assert "not checked" not in log.read_text()


def test_redis_does_not_start_with_an_empty_password(machine: Machine, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    shutil.copytree(machine.folder / "run" / "secrets", secrets)
    (secrets / "redis_worker_password").unlink()  # nobody may write to it
    (secrets / "redis_worker_password").write_text("")

    ended = subprocess.run(
        ["sh", DEPLOY / "redis" / "start.sh", "--port", "0"],
        env={**os.environ, "SECRETS": str(secrets)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert ended.returncode == 1
    assert "the password of deltaq-worker is empty" in ended.stderr
