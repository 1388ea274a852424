"""A private S3 server: versitygw on a folder, with keys that nobody else has."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import pyarrow.fs as pafs
import pytest

from tests.support.prometheus import free_port, get
from tests.support.waiting import wait_until

#: Seconds until a server must answer; it takes a tenth of one.
_UP_WITHIN = 20.0


def find_versitygw() -> Path:
    """Locate the program that ``make setup`` has built; without it CI fails and a laptop skips."""
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which("versitygw", path=places)
    if found:
        return Path(found)
    if "CI" in os.environ:
        pytest.fail("no versitygw: run make setup")
    pytest.skip("no versitygw: run make setup")


class S3Server:
    """An S3 server on a free port of this machine; its buckets are folders in one of its own."""

    region = "us-east-1"
    bucket = "lake"

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dq-s3-", dir="/tmp"))
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_hex(20)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """Name the variables by which AWS's own libraries, and delta-rs, find it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def storage_options(self, endpoint: str | None = None) -> dict[str, str]:
        """Make the options of delta-rs."""
        return {**self.environment(endpoint), "AWS_ALLOW_HTTP": "true"}

    def filesystem(self, endpoint: str | None = None) -> pafs.S3FileSystem:
        """Make a client of pyarrow; its paths begin with the bucket."""
        return pafs.S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=self.region,
            endpoint_override=endpoint or self.endpoint,
            allow_bucket_creation=True,
        )

    def file(self, key: str) -> Path:
        """Locate the file in which an object of the bucket is, without asking the server."""
        return self.folder / "buckets" / self.bucket / key

    def start(self) -> None:
        buckets = self.folder / "buckets"
        buckets.mkdir(exist_ok=True)
        address = f"127.0.0.1:{self.port}"
        command = [find_versitygw(), "--port", address, "--region", self.region, "--keep-alive"]
        keys = {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, "--quiet", "--health", "/health", "posix", buckets],
                env={**os.environ, **keys},
                stdout=output,
                stderr=output,
            )
        wait_until(self._answers, within=_UP_WITHIN, saying=log.read_text)
        self.filesystem().create_dir(self.bucket)

    def _answers(self) -> bool:
        try:
            return get(f"{self.endpoint}/health")[0] == 200
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a crash would; what it has stays."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> S3Server:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder)
