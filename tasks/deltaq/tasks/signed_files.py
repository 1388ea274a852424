"""Files of one JSON value each: whole, durable, and signed where workers ask for that."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import msgspec

from deltaq.tasks.errors import InvalidSignature, StagedDataMissing, StorageUnavailable
from deltaq.tasks.location import Location, sync_folder
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.staging import StagingArea

if TYPE_CHECKING:
    from deltaq.tasks.signing import Signer

_T = TypeVar("_T")


class SignedFiles:
    """Writes and reads such files: the value is in the first line, its signature in the second.

    Args:
        area: The staging area.
        subject: What the values are of; a signature for one is none for another.
        signer: Signs what is written, and checks what is read, where workers ask for that.
    """

    def __init__(self, area: StagingArea, subject: str, signer: Signer | None) -> None:
        self._area = area
        self._subject = subject
        self._signer = signer

    def create(self, path: Location, value: msgspec.Struct) -> None:
        """Write a file.

        Raises:
            FileExistsError: It is there already; it was left as it was.
            StorageUnavailable: The storage refused.
        """
        with self._area.create(path) as file:
            file.write(self._wire(value))

    def replace(self, path: Location, value: msgspec.Struct) -> None:
        """Write a file in the place of one that may be there.

        Raises:
            StorageUnavailable: The storage refused.
        """
        if isinstance(path, S3Path):  # where a put replaces
            with storage_errors(path):
                path.write_bytes(self._wire(value))
            return
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with self._area.create(temporary) as file:
                file.write(self._wire(value))
            with storage_errors(path):
                temporary.rename(path)
                sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, path: Location, kind: type[_T]) -> _T | None:
        """Read a file; None if there is none.

        Raises:
            StagedDataMissing: It is damaged.
            InvalidSignature: Nobody with the key wrote it.
            StorageUnavailable: The storage refused.
        """
        with storage_errors(path):
            try:
                wire, _, signature = path.read_bytes().partition(b"\n")
            except FileNotFoundError:
                return None
        try:
            value = msgspec.json.decode(wire, type=kind)
            if self._signer is not None:
                self._signer.check_query(self._signed(wire), signature.decode().strip() or None)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise StagedDataMissing(f"{path}: damaged: {exc}") from exc
        except InvalidSignature as exc:
            raise InvalidSignature(
                f"{path}: written without the signing_key of the workers, or changed since"
            ) from exc
        return value

    def _wire(self, value: msgspec.Struct) -> bytes:
        wire = msgspec.json.encode(value)
        if self._signer is None:
            return wire + b"\n"
        signature = self._signer.query_signature(self._signed(wire))
        return wire + b"\n" + signature.encode() + b"\n"

    def _signed(self, wire: bytes) -> str:
        return f"{self._subject}\n{wire.decode()}"


@contextlib.contextmanager
def storage_errors(path: Location) -> Iterator[None]:
    """Translate what the storage says.

    Raises:
        StorageUnavailable: It refused.
    """
    try:
        yield
    except OSError as exc:
        raise StorageUnavailable(f"{path}: {exc.strerror or exc}") from exc
