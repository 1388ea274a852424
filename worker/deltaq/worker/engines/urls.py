"""How engines are told where a table is, and how to get there."""

from __future__ import annotations

from deltalake import DeltaTable

from deltaq.tasks.location import Location
from deltaq.tasks.s3_path import S3Path


def storage_options(location: Location) -> dict[str, str] | None:
    """Tell delta-rs how to get to a table: never log it."""
    return location.bucket.delta_options if isinstance(location, S3Path) else None


def open_table(location: Location, *, version: int | None = None) -> DeltaTable:
    """Open a table with delta-rs, at its newest version unless told otherwise."""
    return DeltaTable(str(location), version=version, storage_options=storage_options(location))


def spark_url(location: Location) -> str:
    """Name a file or folder as Spark does: its S3 is called s3a."""
    if isinstance(location, S3Path):
        return f"s3a://{location.bucket.name}/{location.key}"
    return str(location)
