"""How to reach S3: one set of options for whatever reads and writes there, and its errors."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from deltaq.tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

#: AWS's own default, which servers of other makers take as well.
DEFAULT_REGION = "us-east-1"
#: How long a request may take, and how long it is repeated while the server is busy, seconds.
_TIMEOUT, _RETRY = 30, 20
_CODE = re.compile(r"<Code>(\w+)</Code>")
_BUCKET = re.compile(r"<BucketName>([\w.-]+)</BucketName>")
_REGION = re.compile(
    r"<Region>([\w-]+)</Region>|expecting '([\w-]+)'|region:? '?([a-z]+-[a-z]+-\d)"
)


@dataclass(frozen=True, kw_only=True)
class S3Options:
    """Server, region and account. What is None is found as AWS's own tools find it.

    Attributes:
        endpoint: URL of a server that is not AWS, as ``http://minio:9000``.
        region: Where the buckets are.
        path_style: The bucket is in the path of a URL, not in the host's name.
        access_key_id: Name of the account; None: environment, profile, web identity, instance.
        secret_access_key: Its key.
        session_token: Of an account that is good for some hours.
    """

    endpoint: str | None = None
    region: str | None = None
    path_style: bool = True
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)

    @property
    def is_plain(self) -> bool:
        """Tell whether the server speaks HTTP without TLS."""
        return self.endpoint is not None and self.endpoint.startswith("http://")

    def for_object_store(self, bucket: str) -> dict[str, str]:
        """Write the options as obstore and delta-rs take them: never log them."""
        endpoint = self.endpoint
        if endpoint is not None and not self.path_style:
            server = urlsplit(endpoint)
            endpoint = server._replace(netloc=f"{bucket}.{server.netloc}").geturl()
        options = {
            "aws_endpoint": endpoint,
            "aws_region": self.region or DEFAULT_REGION,
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
            "aws_session_token": self.session_token,
            "aws_virtual_hosted_style_request": None if self.path_style else "true",
            "aws_conditional_put": "etag",
        }
        return {name: value for name, value in options.items() if value is not None}


class _Fork:
    """Knows whether obstore's threads are those of another process: calls would never return."""

    def __init__(self) -> None:
        self.happened = self._is_used = False
        os.register_at_fork(after_in_child=self._look)

    def note_use(self) -> None:
        self._is_used = True

    def _look(self) -> None:
        self.happened = self._is_used


_fork = _Fork()


@dataclass(frozen=True)
class Bucket:
    """A bucket and the way to it. Used by many threads at once."""

    name: str
    options: S3Options = S3Options()

    @property
    def store(self) -> S3Store:
        """The connections to it.

        Raises:
            ConfigurationError: ``obstore`` is not installed, there are no credentials, or the
                process was forked from one that had connections.
        """
        if _fork.happened:
            raise ConfigurationError(
                "this process was forked from one that had used S3, whose connections it cannot "
                "use: start it by multiprocessing's 'spawn' or 'forkserver'"
            )
        return self._store

    @cached_property
    def _store(self) -> S3Store:
        with _needs_extra():
            from obstore.store import S3Store
        _fork.note_use()
        given = self.options.access_key_id is not None
        return S3Store(
            self.name,
            config=cast("S3Config", self.options.for_object_store(self.name)),
            client_options={
                "allow_http": self.options.is_plain,
                "timeout": timedelta(seconds=_TIMEOUT),
            },
            retry_config={"max_retries": 10, "retry_timeout": timedelta(seconds=_RETRY)},
            credential_provider=None if given else self._chain(),
        )

    @cached_property
    def delta_options(self) -> dict[str, str]:
        """The options of delta-rs, which looks for credentials by itself: never log them."""
        options = self.options.for_object_store(self.name)
        if self.options.is_plain:
            options["aws_allow_http"] = "true"
        if self.options.access_key_id is None:
            # Beside an endpoint delta-rs would ask nobody but the instance.
            options["aws_force_credential_load"] = "true"
        return options

    @cached_property
    def uploads(self) -> Any:
        """A client of boto3, for uploads in several parts.

        Raises:
            ConfigurationError: ``boto3`` is not installed.
        """
        with _needs_extra():
            import boto3
            from botocore.config import Config
        style = "path" if self.options.path_style else "virtual"
        return boto3.Session().client(
            "s3",
            endpoint_url=self.options.endpoint,
            region_name=self.options.region or DEFAULT_REGION,
            aws_access_key_id=self.options.access_key_id,
            aws_secret_access_key=self.options.secret_access_key,
            aws_session_token=self.options.session_token,
            config=Config(
                s3={"addressing_style": style},
                retries={"mode": "standard", "max_attempts": 10},
                read_timeout=_TIMEOUT,
            ),
        )

    def _chain(self) -> Any:
        with _needs_extra():
            from botocore.exceptions import BotoCoreError
            from obstore.auth.boto3 import Boto3CredentialProvider
        try:
            return Boto3CredentialProvider(ttl=timedelta(minutes=5))
        except BotoCoreError as exc:  # an unknown profile, a file that does not parse
            raise ConfigurationError(f"s3://{self.name}: no credentials: {exc}") from exc
        except ValueError as exc:
            raise ConfigurationError(
                f"s3://{self.name}: no credentials: set s3_access_key_id and s3_secret_access_key, "
                "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where an "
                "instance or web identity role gives some"
            ) from exc

    @contextlib.contextmanager
    def errors(self, place: str) -> Iterator[None]:
        """Turn what obstore and boto3 raise into ``OSError``, with what is to be done about it."""
        try:
            yield
        except Exception as exc:
            raise self._translated(exc, place) from exc

    def _translated(self, exc: Exception, place: str) -> Exception:
        from obstore.exceptions import (
            AlreadyExistsError,
            BaseError,
            PermissionDeniedError,
            UnauthenticatedError,
        )

        code = _code(exc)
        if meant := _meaning(code, str(exc), self.name, self.options.endpoint or "S3"):
            return OSError(*meant, place)
        if isinstance(exc, AlreadyExistsError) or code in _THERE:
            return FileExistsError(errno.EEXIST, "it is there already", place)
        if code in _ABSENT or (code is None and isinstance(exc, FileNotFoundError)):
            return FileNotFoundError(errno.ENOENT, "there is no such object", place)
        if isinstance(exc, PermissionDeniedError | UnauthenticatedError):
            return OSError(errno.EACCES, "the server refuses the credentials", place)
        if isinstance(exc, BaseError | FileNotFoundError) or code is not None:
            return OSError(errno.EIO, _brief(exc), place)
        return exc


#: Numbers of errors that no waiting mends: somebody has to do something.
LASTING = (errno.EACCES, errno.ENXIO, errno.ENOSYS)
_UNREACHABLE, _INTERRUPTED = "no connection", "connection lost"
#: Codes of S3's errors, and ours where there is none.
_MEANINGS: dict[str, tuple[int, str]] = {
    "NoSuchBucket": (errno.ENXIO, "there is no bucket {bucket} at this server"),
    "AccessDenied": (errno.EACCES, "this account may not do that"),
    "AllAccessDisabled": (errno.EACCES, "this account may not do that"),
    "InvalidAccessKeyId": (errno.EACCES, "the server does not know this access key"),
    "XAdminUserNotFound": (errno.EACCES, "the server does not know this access key"),  # versitygw
    "SignatureDoesNotMatch": (errno.EACCES, "the secret key is not that of the access key"),
    "ExpiredToken": (errno.EACCES, "the credentials have expired"),
    "InvalidToken": (errno.EACCES, "the session token is wrong"),
    "RequestTimeTooSkewed": (errno.EACCES, "the clocks of this machine and the server differ"),
    "PermanentRedirect": (errno.ENXIO, "bucket {bucket} is in {region}: set s3_region"),
    "AuthorizationHeaderMalformed": (errno.ENXIO, "bucket {bucket} is in {region}: set s3_region"),
    "NotImplemented": (
        errno.ENOSYS,
        "the server has no conditional put (If-None-Match), without which commits may be lost",
    ),
    "NoSuchUpload": (errno.ENOENT, "the upload has ended"),
    "SlowDown": (errno.EBUSY, "the server is overloaded"),
    "InternalError": (errno.EIO, "the server failed"),
    _INTERRUPTED: (errno.ECONNRESET, "{server} ended the connection"),
    _UNREACHABLE: (
        errno.EHOSTUNREACH,
        "{server} cannot be reached; is it up, is s3_endpoint right?",
    ),
}
_ABSENT = ("NoSuchKey", "NotFound", "404")
_THERE = ("PreconditionFailed", "ConditionalRequestConflict")


def explain(text: str) -> str | None:
    """Say what an error of delta-rs means, if it is one of S3 that has a known meaning."""
    named = _BUCKET.search(text)
    meant = _meaning(_code_in(text), text, named[1] if named else "of the lake", "S3")
    return meant[1] if meant else None


def _meaning(code: str | None, text: str, bucket: str, server: str) -> tuple[int, str] | None:
    if code not in _MEANINGS:
        return None
    number, meaning = _MEANINGS[code]
    found = _REGION.search(text)
    region = next(filter(None, found.groups()), None) if found else None
    told = meaning.format(bucket=bucket, region=region or "another region", server=server)
    return number, f"{told} ({code})"


def _code(exc: Exception) -> str | None:
    """Tell S3's code of an error: boto3 has it apart, obstore in what it tells."""
    response = getattr(exc, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code"))
    return _UNREACHABLE if type(exc).__name__ == "EndpointConnectionError" else _code_in(str(exc))


def _code_in(text: str) -> str | None:
    if found := _CODE.search(text):
        return found.group(1)
    if "redirect without LOCATION" in text:  # obstore's word for a PermanentRedirect
        return "PermanentRedirect"
    if "error sending request" not in text:
        return None
    return _INTERRUPTED if "kind: Interrupted" in text else _UNREACHABLE


def _brief(exc: Exception) -> str:
    """Say in a line what obstore says in several, without the program's structures."""
    return str(exc).split("\n\nDebug source:")[0].strip().replace("\n", " ")[:500]


@contextlib.contextmanager
def _needs_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as exc:
        raise ConfigurationError(
            f"S3 needs {exc.name}, which is not installed: pip install 'deltaq[s3]'"
        ) from exc
