"""What may go wrong with a call of S3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request as it came; names of headers are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What the proxy answers in place of the server."""

    status: int
    code: str
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Further elements of the answer's XML.
    more: Mapping[str, str] = field(default_factory=dict)


# As AWS tells them; HEAD gets the status alone.
SLOW_DOWN = Refusal(status=503, code="SlowDown")
INTERNAL_ERROR = Refusal(status=500, code="InternalError")
EXPIRED_TOKEN = Refusal(status=400, code="ExpiredToken")
INVALID_KEY = Refusal(status=403, code="InvalidAccessKeyId")
WRONG_SIGNATURE = Refusal(status=403, code="SignatureDoesNotMatch")
CLOCK_SKEW = Refusal(status=403, code="RequestTimeTooSkewed")
ACCESS_DENIED = Refusal(status=403, code="AccessDenied")
NO_SUCH_BUCKET = Refusal(status=404, code="NoSuchBucket")
#: While another puts or deletes the same object.
CONFLICT = Refusal(status=409, code="ConditionalRequestConflict")
NOT_IMPLEMENTED = Refusal(status=501, code="NotImplemented")
WRONG_REGION = Refusal(
    status=301,
    code="PermanentRedirect",
    headers={"x-amz-bucket-region": "eu-central-1"},
    more={"Endpoint": "lake.s3.eu-central-1.amazonaws.com"},
)
WRONG_REGION_SIGNED = Refusal(
    status=400,
    code="AuthorizationHeaderMalformed",
    headers={"x-amz-bucket-region": "eu-central-1"},
    more={"Region": "eu-central-1"},
)

REFUSALS = [refusal for refusal in vars().values() if isinstance(refusal, Refusal)]


class Cut(StrEnum):
    """Where a connection breaks."""

    BEFORE = "before"  # the server hears nothing of the call
    UPLOAD = "upload"  # the server has half of its body
    ANSWER = "answer"  # the server has done it, and nobody is told
    DOWNLOAD = "download"  # the caller has half of the answer's body


@dataclass
class Fault:
    deed: Refusal | Cut
    only: Callable[[Call], bool]
    every: int
    times: int | None
    matched: int = 0

    def strikes(self, call: Call) -> bool:
        if self.times == 0 or not self.only(call):
            return False
        self.matched += 1
        if self.matched % self.every:
            return False
        if self.times is not None:
            self.times -= 1
        return True


def is_conditional_put(call: Call) -> bool:
    """Tell calls that may create an object and not replace one."""
    return call.method == "PUT" and "if-none-match" in call.headers
