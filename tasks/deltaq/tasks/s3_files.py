"""Objects in S3 as files: written whole, unless one is there, and read as far as is asked."""

from __future__ import annotations

import contextlib
import errno
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, cast

if TYPE_CHECKING:
    from obstore import ReadableFile

    from deltaq.tasks.s3_path import S3Path

#: Bytes up to which an object is read and written in one piece.
ONE_PIECE = 8 << 20
#: How often an object is written again when the server tells of a conflict, and none is there.
_CONFLICTS = 10


def new_file(path: S3Path) -> contextlib.AbstractContextManager[BinaryIO]:
    """Begin an object that appears when the block ends, unless one of that name is there."""
    return cast("contextlib.AbstractContextManager[BinaryIO]", _Writer(path))


def raw_file(path: S3Path, reader: ReadableFile) -> io.RawIOBase:
    """Give what obstore reads the errors of :class:`~deltaq.tasks.s3_path.S3Path`."""
    return _Reader(path, reader)


class _Writer(io.RawIOBase):
    """Writes an object: a small one by one request, a large one in parts while they come."""

    def __init__(self, path: S3Path) -> None:
        self._path = path
        self._held = bytearray()  # from offset _sent on
        self._sent = self._position = 0
        self._upload: str | None = None
        self._parts: list[dict[str, Any]] = []

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go back to what is still held: the last bytes, at least a piece of them."""
        if whence != io.SEEK_SET or offset < self._sent:
            raise io.UnsupportedOperation("only the end of an object can be written again")
        self._position = offset
        return offset

    def write(self, data: Any) -> int:
        content = memoryview(data).cast("B")
        start = self._position - self._sent
        self._held[start : start + len(content)] = content
        self._position += len(content)
        while len(self._held) >= 2 * ONE_PIECE:
            self._send(ONE_PIECE)
        return len(content)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: Any, exc: BaseException | None, traceback: Any) -> None:
        if exc is not None:
            self._abort()
        elif self._upload is None:
            self._put()
        else:
            self._complete()

    def _put(self) -> None:
        import obstore

        bucket, content = self._path.bucket, bytes(self._held)
        for _ in range(_CONFLICTS):
            try:
                with self._path.errors():
                    obstore.put(
                        bucket.store, self._path.key, content, mode="create", use_multipart=False
                    )
            except FileExistsError:
                # 409 says only that something else went on at the same time.
                if self._path.is_file():
                    raise
            except OSError as exc:
                # If it was written nevertheless, the next try finds it.
                if exc.errno != errno.ECONNRESET:
                    raise
            else:
                return
        raise OSError(
            errno.EBUSY,
            "the server tells of conflicts, or ends connections, again and again",
            str(self._path),
        )

    def _send(self, size: int) -> None:
        with self._errors() as call:
            if self._upload is None:
                self._upload = call("create_multipart_upload")["UploadId"]
            number = len(self._parts) + 1
            sent = call(
                "upload_part",
                UploadId=self._upload,
                PartNumber=number,
                Body=bytes(self._held[:size]),
            )
        self._parts.append({"ETag": sent["ETag"], "PartNumber": number})
        del self._held[:size]
        self._sent += size

    def _complete(self) -> None:
        try:
            self._send(len(self._held))
            with self._errors() as call:
                call(
                    "complete_multipart_upload",
                    UploadId=self._upload,
                    MultipartUpload={"Parts": self._parts},
                    IfNoneMatch="*",
                )
        except (FileExistsError, FileNotFoundError) as exc:
            self._abort()
            # A conflict, or an answer that was lost: all that counts is whether it is there.
            path = self._path
            if path.is_file():
                raise FileExistsError(errno.EEXIST, "it is there already", str(path)) from exc
            raise OSError(errno.EBUSY, "another upload of it goes on", str(path)) from exc
        except OSError:
            self._abort()
            raise

    def _abort(self) -> None:
        if self._upload is None:
            return
        # What led here is to be told. What cannot be aborted the sweeper aborts, a day later.
        with contextlib.suppress(OSError), self._errors() as call:
            call("abort_multipart_upload", UploadId=self._upload)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[Any]:
        bucket = self._path.bucket

        def call(operation: str, **arguments: Any) -> Any:
            named = {"Bucket": bucket.name, "Key": self._path.key, **arguments}
            return getattr(bucket.uploads, operation)(**named)

        with self._path.errors():
            yield call


class _Reader(io.RawIOBase):
    """What obstore reads, with this module's errors."""

    def __init__(self, path: S3Path, reader: ReadableFile) -> None:
        self._path = path
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._reader.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._path.errors():
            return int(self._reader.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def read(self, size: int | None = -1) -> Any:
        with self._path.errors():
            return self._reader.read(None if size is None or size < 0 else size)
