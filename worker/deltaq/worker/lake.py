"""The lake: a folder of Delta tables."""

from __future__ import annotations

from deltaq.tasks.errors import StorageUnavailable, TableNotFound
from deltaq.tasks.location import Location, table_names
from deltaq.tasks.names import check_table_name
from deltaq.tasks.suggest import did_you_mean


class Lake:
    """Finds tables below the lake's root, and nothing outside it."""

    def __init__(self, root: Location) -> None:
        self.root = root

    def path(self, table: str) -> Location:
        """Locate the folder of a table.

        Raises:
            InvalidTableName: The name could lead elsewhere.
        """
        return self.root / check_table_name(table)

    def exists(self, table: str) -> bool:
        """Tell whether a Delta table of that name is there: a log with a commit or checkpoint."""
        log = self.path(table) / "_delta_log"
        try:
            return any(f.suffix in (".json", ".parquet") for f in log.iterdir())
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise StorageUnavailable(f"{log}: cannot be read: {exc.strerror}") from exc

    def missing(self, table: str) -> TableNotFound:
        """Make the error that says that there is no such table, and which one may be meant."""
        near = did_you_mean(table, self.tables())
        return TableNotFound(f"there is no table {table} in the lake{near}", table=table)

    def tables(self) -> list[str]:
        """List the names of the Delta tables, sorted.

        Raises:
            StorageUnavailable: The lake cannot be read.
        """
        try:
            names = list(table_names(self.root))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise StorageUnavailable(f"{self.root}: cannot be read: {exc.strerror}") from exc
        return sorted(name for name in names if self.exists(name))
