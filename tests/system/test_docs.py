"""Every command and snippet of the README and the pages in docs/ is run.

The blocks of a page run in its order, Python in one namespace, all of them in one folder and
on one system. A ``text`` block after a block is what it must print; in ``console`` blocks the
output follows the command.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deltaq.client import Client
from deltaq.tasks.settings import load_settings
from deltaq.worker import System, embedded
from tests.support.pages import PAGES, ROOT, Block, blocks
from tests.support.paths import as_path
from tests.support.waiting import wait_until

#: Commands that are not run here, each with the reason.
NOT_RUN = {
    "make demo": "takes minutes; tests/system/test_demo.py runs it with less data",
    "make test": "it would run this test",
    ".venv/bin/python -m tests.fault.takeover --kills 20": "minutes; tests/fault/test_takeover.py",
    ".venv/bin/python -m tests.fault.soak --minutes 30 --report soak.json": (
        "half an hour; tests/fault/test_soak.py runs three minutes"
    ),
    ".venv/bin/python -m tests.fault.backlog --requests 200000": (
        "five minutes; tests/fault/test_backlog.py runs a twentieth"
    ),
    "pip install deltaq": "changes the machine; the build checks what the wheel needs",
    "pip install 'deltaq[worker]'": "as above",
}
#: Languages that are shown, not run.
SHOWN = {
    "ini": "a unit for systemd, which test machines need not have",
    "shell": "for Docker or a cluster, which test machines need not have",
    "text": "a screen, of a system that is busier than that of the test",
}
#: What a program that serves until it is told to stop says when it is up.
_SERVING = {
    "deltaq worker": "serves",
    "deltaq dev": "export DELTAQ_REDIS_URL=",
    "DELTAQ_FLOWER_AUTH_FILE=flower.auth deltaq flower": "Flower listens",
}

pytestmark = pytest.mark.timeout(180)


@dataclass
class Reading:
    """Somebody who reads a page and types what it says."""

    folder: Path
    system: System
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})

    @property
    def environment(self) -> dict[str, str]:
        """What a terminal has after the lines that ``deltaq dev`` prints."""
        outer = {k: v for k, v in os.environ.items() if not k.startswith("DELTAQ_")}
        path = os.pathsep.join([str(Path(sys.executable).parent), outer["PATH"]])
        return {**outer, **self.system.env, "PATH": path, "COLUMNS": "100"}

    def python(self, block: Block) -> None:
        page, _, line = block.place.rpartition(":")
        # Blank lines, so that a traceback shows the line of the page.
        code = compile("\n" * (int(line) - 1) + block.text, page, "exec")
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(code, self.names)
        if block.output is not None:
            assert said.getvalue() == block.output, block.place

    def bash(self, block: Block) -> None:
        lines = [line.partition("  #")[0].rstrip() for line in block.text.splitlines()]
        script = "\n".join(line for line in lines if line not in NOT_RUN)
        serving = next((s for command, s in _SERVING.items() if script.startswith(command)), None)
        if serving:
            self._serve(script, serving)
        elif script:
            assert self._run(script) is not None

    def console(self, block: Block) -> None:
        for part in block.text.removeprefix("$ ").split("\n$ "):
            command, _, output = part.partition("\n")
            command = command.partition("  #")[0].rstrip()
            if command not in NOT_RUN:
                assert self._run(command) == output.rstrip("\n"), block.place

    def conf(self, block: Block) -> None:
        """Check that redis-server accepts a configuration."""
        config = self.folder / "redis.conf"
        config.write_text(block.text)
        socket = self.folder / "redis.sock"
        ports = ["--port", "0", "--tls-port", "0"]  # somebody may have those of the page
        options = [*ports, "--unixsocket", str(socket), "--dir", str(self.folder)]
        with subprocess.Popen(["redis-server", config, *options], stdout=subprocess.PIPE) as server:
            wait_until(lambda: socket.exists() or server.poll() is not None)
            server.terminate()
            said, _ = server.communicate(timeout=20)
        assert server.returncode == 0, said.decode()

    def toml(self, block: Block) -> None:
        """Check that a configuration has only settings that there are."""
        config = self.folder / "page.toml"
        config.write_text(block.text)
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("DELTAQ_")]:
                patch.delenv(name)
            patch.setenv("DELTAQ_CONFIG", str(config))
            assert load_settings().model_fields_set

    def _run(self, script: str) -> str:
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode == 0, f"{script}\n{ended.stdout}{ended.stderr}"
        return ended.stdout.rstrip("\n")

    def _serve(self, command: str, ready: str) -> None:
        """Run a program until it is up, then stop it."""
        log = self.folder / "serving.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        try:
            wait_until(
                lambda: ready in log.read_text() or server.poll() is not None,
                within=60,
                saying=log.read_text,
            )
        finally:
            server.terminate()
            code = server.wait(60)
        assert (code, ready in log.read_text()) == (0, True), log.read_text()


@pytest.fixture(scope="module")
def quick_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system without Spark, for all pages."""
    with embedded(tmp_path_factory.mktemp("pages") / "lake", spark="off") as system:
        yield system


@pytest.fixture
def reading(
    quick_system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reading]:
    """A reader in an empty folder, with a lake without tables."""
    for table in quick_system.settings.lake.iterdir():
        if not table.name.startswith("."):  # what is the worker's own, it removes itself
            shutil.rmtree(as_path(table))
    monkeypatch.chdir(tmp_path)
    for name, value in quick_system.env.items():
        monkeypatch.setenv(name, value)
    reader = Reading(tmp_path, quick_system)
    yield reader
    for value in reader.names.values():
        if isinstance(value, Client):
            value.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_does_what_it_says(page: Path, reading: Reading) -> None:
    run: dict[str, Callable[[Block], None]] = {
        "python": reading.python,
        "bash": reading.bash,
        "console": reading.console,
        "conf": reading.conf,
        "toml": reading.toml,
    }
    for block in blocks(page):
        if block.language not in SHOWN:
            run[block.language](block)


def test_what_is_not_run_is_still_on_a_page() -> None:
    text = "\n".join(block.text for page in PAGES for block in blocks(page))

    assert [command for command in NOT_RUN if command not in text] == []
