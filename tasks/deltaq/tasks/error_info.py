"""Errors as they cross the wire: no exception does, and the caller gets the same type."""

from __future__ import annotations

from typing import Any

import msgspec

from deltaq.tasks.errors import DeltaqError, error_classes


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as it crosses the wire."""

    code: str
    message: str
    details: dict[str, Any] = {}


def info_from_error(error: DeltaqError) -> ErrorInfo:
    """Turn an error into its wire form."""
    return ErrorInfo(code=error.code, message=error.message, details=error.details)


def error_from_info(
    info: ErrorInfo, *, request_id: str | None = None, table: str | None = None
) -> DeltaqError:
    """Build the error that ``info`` describes, of the type it had on the other side.

    A code from a newer deltaq becomes the root class, with the code in the message.
    """
    kind = _BY_CODE.get(info.code)
    message = info.message if kind else f"{info.message} [{info.code}]"
    return (kind or DeltaqError)(
        message, request_id=request_id, table=table, details=dict(info.details)
    )


_BY_CODE = {kind.code: kind for kind in error_classes()}
