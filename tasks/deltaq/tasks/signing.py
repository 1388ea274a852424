"""Signatures of requests and queries: who has the key asked for this, and nobody changed it.

The signature of a request is in the footer of its staged file and covers every byte of the file,
the request in it included. Nothing is signed in Redis: what an inbox says must be what the file
says. Decision 21 tells why.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from deltaq.tasks.errors import InvalidSignature, StagedDataMissing, StorageUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.request import Request
from deltaq.tasks.staging import open_staged, request_of

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.tasks.settings import Settings

#: Key of the signature in the footer's metadata, and what is there while the file is signed.
SIGNATURE_KEY = b"deltaq.signature"
BLANK = b"0" * 64
#: Between key and value in the footer's own encoding (Thrift's compact protocol): the next
#: field is a text, of 64 bytes.
_BETWEEN = b"\x18\x40"
#: The end of a Parquet file: four bytes with the length of the footer, and "PAR1".
_TAIL = 8
_CHUNK = 1 << 20

_HOW = "sign with the signing_key of the workers"


class Signer:
    """Signs with a key, and checks signatures by it or by the one before.

    Args:
        key: The key.
        old: The key that is being replaced: still good, but nothing is signed with it.
    """

    def __init__(self, key: bytes, old: bytes | None = None) -> None:
        self._key = key
        self._known = [key] if old is None else [key, old]

    def begin(self) -> hmac.HMAC:
        """Begin the signature of a file; feed it all bytes, with :data:`BLANK` in its place."""
        return _file_mac(self._key).copy()

    def query_signature(self, wire: str) -> str:
        """Sign a query, as ``encode_query`` writes it."""
        return _query_mac(self._key, wire)

    def check_query(self, wire: str, signature: str | None) -> None:
        """Make sure that a holder of the key sent a query.

        Raises:
            InvalidSignature: Nobody did.
        """
        if not isinstance(signature, str):  # it comes as anybody sent it
            raise InvalidSignature(f"the query is not signed: {_HOW}")
        given = signature.encode(errors="replace")
        good = [_query_mac(key, wire).encode() for key in self._known]
        if not any(hmac.compare_digest(given, other) for other in good):
            raise InvalidSignature(f"the query's signature is by another key: {_HOW}")

    def check_request(self, request: Request, path: Location) -> None:
        """Make sure that a holder of the key made a staged file, and that a request is the file's.

        Args:
            request: As it stands in an inbox. Whom to tell of the outcome and when it expires may
                differ from the file: both change when it is submitted again.
            path: Its staged file.

        Raises:
            InvalidSignature: The file is not signed, was changed, or is another request's.
            StagedDataMissing: The file is gone or no Parquet.
            StorageUnavailable: It cannot be read now.
        """
        with open_staged(path) as file:
            signature = (file.metadata.metadata or {}).get(SIGNATURE_KEY)
            staged = request_of(path, file)
        if signature is None:
            raise _invalid(request, f"{path} is not signed: {_HOW}")
        if not self._is_good(path, signature):
            raise _invalid(
                request, f"{path} was changed, or signed with another key: {_HOW}, and submit again"
            )
        told = msgspec.structs.replace(
            request, client_id=staged.client_id, expires_ms=staged.expires_ms
        )
        if told != staged:
            raise _invalid(request, f"the queue holds another request than {path}, which is signed")

    def _is_good(self, path: Location, signature: bytes) -> bool:
        macs = [_file_mac(key).copy() for key in self._known]
        try:
            with path.open("rb") as file:
                for chunk in _blanked(file, signature):
                    for mac in macs:
                        mac.update(chunk)
        except FileNotFoundError as exc:
            raise StagedDataMissing(f"{path}: the staged file is gone") from exc
        except OSError as exc:
            raise StorageUnavailable(f"{path}: cannot be read: {exc}") from exc
        except ValueError:  # the signature is not where one is written
            return False
        return any(hmac.compare_digest(signature, mac.hexdigest().encode()) for mac in macs)


def signer_of(settings: Settings) -> Signer | None:
    """Make the signer that settings ask for; None without a key."""
    if settings.signing_key is None:
        return None
    old = settings.signing_key_old
    return Signer(
        settings.signing_key.get_secret_value().encode(),
        None if old is None else old.get_secret_value().encode(),
    )


def place_of(footer: bytes, value: bytes) -> int:
    """Tell where in the bytes of a footer the signature stands.

    Raises:
        ValueError: Nowhere.
    """
    key = SIGNATURE_KEY + _BETWEEN
    return footer.rindex(key + value) + len(key)


def _blanked(file: BinaryIO, signature: bytes) -> Iterator[bytes]:
    """Read a file as it was when it was signed."""
    size = file.seek(-_TAIL, os.SEEK_END) + _TAIL
    begin = size - _TAIL - int.from_bytes(file.read(_TAIL)[:4], "little")
    file.seek(0)
    left = begin
    while left:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise ValueError("the file became shorter")
        left -= len(chunk)
        yield chunk
    footer = file.read()
    place = place_of(footer, signature)
    yield footer[:place] + BLANK + footer[place + len(BLANK) :]


@lru_cache(maxsize=8)
def _file_mac(key: bytes) -> hmac.HMAC:
    return hmac.new(key, b"deltaq.file\0", "sha256")


def _query_mac(key: bytes, wire: str) -> str:
    return hmac.new(key, b"deltaq.query\0" + wire.encode(), "sha256").hexdigest()


def _invalid(request: Request, problem: str) -> InvalidSignature:
    return InvalidSignature(
        f"{problem}; nothing of it was applied",
        request_id=request.request_id,
        table=request.table,
    )
