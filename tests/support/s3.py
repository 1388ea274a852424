"""Private S3 servers: versitygw on a folder, and moto as another opinion on what S3 does."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import pytest

from deltaq.tasks.s3 import S3Options
from tests.support.prometheus import free_port, get
from tests.support.waiting import wait_until

#: Seconds until a server must answer; versitygw takes a tenth of one, moto two.
_UP_WITHIN = 30.0


def find_versitygw() -> Path:
    """Locate the program that ``make setup`` has built; without it CI fails and a laptop skips."""
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which("versitygw", path=places)
    if found:
        return Path(found)
    if "CI" in os.environ:
        pytest.fail("no versitygw: run make s3")
    pytest.skip("no versitygw: run make s3")


class S3Server:
    """versitygw on a free port of this machine, with keys that nobody else has and a bucket."""

    region = "us-east-1"
    bucket = "lake"
    _health: ClassVar = "/health"

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

    def settings(self, endpoint: str | None = None) -> dict[str, Any]:
        """Name the settings of deltaq by which it is found."""
        return {
            "s3_endpoint": endpoint or self.endpoint,
            "s3_region": self.region,
            "s3_access_key_id": self.access_key,
            "s3_secret_access_key": self.secret_key,
        }

    def options(self, endpoint: str | None = None) -> S3Options:
        """Make what all of deltaq reaches it by."""
        return S3Options(
            endpoint=endpoint or self.endpoint,
            region=self.region,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
        )

    def storage_options(self, endpoint: str | None = None) -> dict[str, str]:
        """Make the options of delta-rs."""
        return {**self.environment(endpoint), "AWS_ALLOW_HTTP": "true"}

    def client(self, endpoint: str | None = None) -> Any:
        """Make a client of boto3 that tries each call once."""
        import boto3  # only when needed: the import takes a fifth of a second
        from botocore.config import Config

        return boto3.client(
            "s3",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            endpoint_url=endpoint or self.endpoint,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def file(self, key: str) -> Path:
        """Locate the file in which an object of the bucket is, without asking the server."""
        return self._buckets / self.bucket / key

    def start(self) -> None:
        self._buckets.mkdir(exist_ok=True)
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command(),
                env={
                    **os.environ,
                    "ROOT_ACCESS_KEY": self.access_key,
                    "ROOT_SECRET_KEY": self.secret_key,
                },
                stdout=output,
                stderr=output,
            )
        wait_until(self._answers, within=_UP_WITHIN, saying=log.read_text)
        client = self.client()
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):  # started again
            client.create_bucket(Bucket=self.bucket)

    def _command(self) -> list[str | Path]:
        listen = ("--port", f"127.0.0.1:{self.port}", "--region", self.region, "--keep-alive")
        told = ("--quiet", "--health", self._health)
        return [find_versitygw(), *listen, *told, "posix", self._buckets]

    @property
    def _buckets(self) -> Path:
        return self.folder / "buckets"

    def _answers(self) -> bool:
        try:
            return get(f"{self.endpoint}{self._health}")[0] == 200
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a crash would; what it has stays, and :meth:`start` finds it again."""
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


class MotoServer(S3Server):
    """moto, which keeps objects in memory and takes any keys."""

    _health = "/moto-api/data.json"

    def _command(self) -> list[str | Path]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
