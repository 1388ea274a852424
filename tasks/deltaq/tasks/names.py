"""What tables, requests and clients may be called: names that become keys and paths."""

from __future__ import annotations

import re

from deltaq.tasks.errors import InvalidRequest, InvalidTableName

#: Characters; leaves room for suffixes within the 255 bytes of a file name.
MAX_TABLE_NAME = 128

_TABLE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_HEX_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
#: Ids may be chosen by callers (an order number); they become file names and keys.
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)


def check_table_name(name: str) -> str:
    """Return the name if it is one of a table.

    Raises:
        InvalidTableName: Otherwise; the message says what is allowed.
    """
    if not isinstance(name, str):
        raise InvalidTableName(f"a table's name is text, not {type(name).__name__}")
    if len(name) > MAX_TABLE_NAME:
        raise InvalidTableName(
            f"table name {name[:20]!r}... has {len(name)} characters, "
            f"at most {MAX_TABLE_NAME} are allowed"
        )
    if not _TABLE_NAME.fullmatch(name):
        raise InvalidTableName(
            f"invalid table name {name!r}: use letters, digits, '_', '.' and '-', "
            "beginning with a letter, a digit or '_'"
        )
    return name


def check_request_id(request_id: str) -> str:
    """Return the id if it is a valid one.

    Raises:
        InvalidRequest: Otherwise.
    """
    if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id):
        raise InvalidRequest(
            f"invalid request id {str(request_id)[:150]!r}: use up to 128 letters, digits, "
            "'_', '.' and '-', beginning with a letter or a digit"
        )
    return request_id


def check_client_id(client_id: str) -> str:
    """Return the id if it is 32 hexadecimal digits.

    Raises:
        InvalidRequest: Otherwise.
    """
    if not _HEX_ID.fullmatch(client_id):
        raise InvalidRequest(f"invalid client id {client_id[:50]!r}: 32 hexadecimal digits")
    return client_id
