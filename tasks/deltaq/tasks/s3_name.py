"""Names in S3 as ``pathlib.PurePath`` has those on a disk: none of it asks the server."""

from __future__ import annotations

from functools import cached_property, total_ordering
from pathlib import PurePosixPath
from typing import Self

from deltaq.tasks.s3 import Bucket


@total_ordering
class S3Name:
    """The name of an object in S3, or of a folder of objects.

    Args:
        bucket: Where it is, and how to get there.
        key: The name within the bucket, without slashes at its ends; "" is the bucket itself.
    """

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.bucket = bucket
        self.key = key

    def __truediv__(self, name: str | PurePosixPath) -> Self:
        return self._at(f"{self.key}/{name}" if self.key else str(name))

    def __str__(self) -> str:
        return f"s3://{self.bucket.name}/{self.key}".rstrip("/")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Name) and str(self) == str(other)

    def __lt__(self, other: S3Name) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @cached_property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(self.key)

    @property
    def name(self) -> str:
        """The last part of the name."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The last part of the name, without its suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """The end of the name from the last dot, "" if it has none."""
        return self._pure.suffix

    @property
    def parent(self) -> Self:
        """The folder that it is in."""
        return self._at("/".join(self._pure.parts[:-1]))

    @property
    def parents(self) -> list[Self]:
        """The folders that it is in, innermost first."""
        parts = self._pure.parts
        return [self._at("/".join(parts[:n])) for n in reversed(range(len(parts)))]

    def with_name(self, name: str) -> Self:
        """Name another object in the same folder."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> Self:
        """Name the object whose name has another suffix."""
        return self._at(str(self._pure.with_suffix(suffix)))

    def is_relative_to(self, other: S3Name) -> bool:
        """Tell whether it is in a folder, or is that folder."""
        return self.bucket == other.bucket and self._pure.is_relative_to(other.key)

    def relative_to(self, other: S3Name) -> PurePosixPath:
        """Name it as seen from a folder that it is in."""
        return self._pure.relative_to(other.key)

    def _at(self, key: str) -> Self:
        return type(self)(self.bucket, key)
