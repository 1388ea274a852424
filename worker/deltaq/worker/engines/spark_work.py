"""Where Spark and this process hand files to each other while a request is performed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.staging import StagingArea


class SparkWork:
    """Names files and folders that all executors reach, and removes them afterwards.

    With a staging area in S3, work is on this machine's disk; executors of a cluster are on others,
    and work with them is in the staging area.

    Args:
        staging: The staging area.
        shared: Executors may be on other machines.
    """

    def __init__(self, staging: StagingArea, *, shared: bool) -> None:
        self._staging = staging
        self._shared = shared

    @contextmanager
    def path(self, suffix: str = "") -> Iterator[Location]:
        """Name a file or folder that is not there yet and will not be there afterwards.

        Raises:
            StorageUnavailable: The storage refused.
        """
        path: Location
        if self._shared:
            path = self._staging.new_shared_work_path(suffix)
        else:
            path = self._staging.new_work_path().with_suffix(suffix)
        try:
            yield path
        finally:
            self._staging.remove_folder(path)

    @contextmanager
    def rows_for(self, destination: Path) -> Iterator[Location]:
        """Name the folder in which Spark writes rows as Parquet; they are in another at the end.

        Args:
            destination: A folder in the work of the staging area that is not there yet.

        Raises:
            StorageUnavailable: The storage refused.
        """
        if isinstance(self._staging.root, Path) or not self._shared:
            yield destination  # which executors reach as well
            return
        with self.path() as folder:
            yield folder
            _fetch(folder, destination)


def _fetch(folder: Location, destination: Path) -> None:
    try:
        destination.mkdir(parents=True)
        for file in folder.glob("*.parquet"):
            with file.open("rb") as content, (destination / file.name).open("wb") as copy:
                shutil.copyfileobj(content, copy, 1 << 20)
    except OSError as exc:
        raise StorageUnavailable(f"{folder}: cannot be fetched: {exc.strerror or exc}") from exc
