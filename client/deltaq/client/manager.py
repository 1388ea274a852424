"""DeltaLakeManager: tables as pandas DataFrames, one synchronous call for each operation."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from deltaq.client.asking import read_query
from deltaq.client.drafts import table_name
from deltaq.client.in_process import InProcess
from deltaq.client.managed_tables import common_of, failures_logged, logger
from deltaq.client.managed_writes import ManagedWrites
from deltaq.client.pandas_frames import to_pandas
from deltaq.client.queued import Queued
from deltaq.client.requests import (
    drop_request,
    optimize_request,
    vacuum_request,
)
from deltaq.tasks.errors import ConfigurationError, TableNotFound
from deltaq.tasks.query import Read
from deltaq.tasks.suggest import did_you_mean

if TYPE_CHECKING:  # they take a while to import, and are not needed before there is a manager
    import pandas

    from deltaq.tasks.settings import Settings

_STORAGE_PATH = "s3://finance-lake"
#: The keys of the configuration's block.
_BLOCK = ("enabled", "storage_path")
#: Commits; a log is cleaned long before it has so many.
_WHOLE_HISTORY = 1_000_000


class DeltaLakeManager(ManagedWrites):
    """Reads and writes Delta tables as pandas DataFrames, each call done when it returns.

    Where ``redis_url`` is set, as an argument, in the environment or in ``deltaq.toml``, the
    calls are requests to the workers of that queue. Where it is not, the same requests are
    applied in this process by the native engine, which needs the ``worker`` extra and no Spark:
    each of them once and as a whole, and in no order between processes.

    Threads may share one. Every failure is logged with the table's name and raised. All methods
    may raise ``InvalidTableName``; those that go through a queue also:

    - ``QueueUnavailable``: Redis was down for all of ``timeout``. What was to be written is
      staged, with its file and request id in the error, and goes in when Redis is back while
      this process lives; later ``deltaq recover --apply`` submits it. Nothing is ever written in
      another format or place.
    - ``ResultTimeout``: Redis has the request and no worker was done with it within ``timeout``;
      it goes on.

    Args:
        storage_path: Folder of the tables; a table is a folder below it.
        timeout: Most seconds that a call waits for a queue.
        settings: Single settings of :func:`deltaq.client.load_settings`, such as ``redis_url``.

    Raises:
        ConfigurationError: A setting is wrong, or the package to write without a queue is missing.

    Examples:
        In those of the methods ``lake`` is such a manager, and table ``prices`` has the rows of
        ``frame``.

        >>> frame = pd.DataFrame({"symbol": ["IBM", "MSFT"], "price": [101.5, 39.5]})
        >>> with DeltaLakeManager("./lake") as lake:
        ...     lake.create_or_update_table(frame, "prices")
        ...     print(len(lake.read_table("prices")))
        4
    """

    def __init__(
        self, storage_path: str = _STORAGE_PATH, *, timeout: float = 60.0, **settings: Any
    ) -> None:
        from deltaq.tasks.settings import load_settings

        found = load_settings(**{"spool": True, **settings, "lake": storage_path})
        self._settings = found
        self._tables = Queued(found, timeout=timeout) if has_queue(found) else InProcess(found)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> DeltaLakeManager | None:
        """Make a manager from a configuration's block ``delta_lake: {enabled, storage_path}``.

        Args:
            config: The configuration, or the block itself.
            options: Further arguments of the class.

        Returns:
            None when the block is not there or says ``enabled: false``.

        Raises:
            ConfigurationError: The block has other keys or values, or as the class says.

        Examples:
            >>> config = {"delta_lake": {"enabled": True, "storage_path": "./lake"}}
            >>> with DeltaLakeManager.from_config(config) as lake:
            ...     lake.table_exists("prices")
            True
        """
        whole = "delta_lake" in config or not set(config) & set(_BLOCK)
        block = config.get("delta_lake", {"enabled": False}) if whole else config
        if not isinstance(block, Mapping) or not isinstance(block.get("enabled", True), bool):
            raise ConfigurationError(
                f"delta_lake must be {{enabled: true or false, storage_path}}, not {block!r}"
            )
        for name in block:
            if name not in _BLOCK:
                raise ConfigurationError(
                    f"unknown setting delta_lake.{name}{did_you_mean(str(name), _BLOCK)}"
                )
        if not block.get("enabled", True):
            return None
        return cls(block.get("storage_path", _STORAGE_PATH), **options)

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return self._settings

    def read_table(
        self,
        table_name: str,
        as_of_timestamp: str | None = None,
        filters: list[str] | None = None,
        *,
        columns: list[str] | None = None,
        version: int | None = None,
    ) -> pandas.DataFrame:
        """Read a table, in the dtypes of :func:`deltaq.client.to_pandas`.

        Args:
            table_name: Name of the table.
            as_of_timestamp: Read it as of this time, ISO 8601; UTC without a zone.
            filters: Conditions in Spark SQL that must all hold, such as ``'symbol = "A"'``.
            columns: Columns to read; all by default.
            version: Read this version.

        Raises:
            TableNotFound: There is no such table.
            VersionNotFound: It was not there at that time, or the files of then are gone.
            InvalidExpression: A filter is none.

        Examples:
            >>> lake.read_table("prices", filters=["price > 100"], columns=["symbol"])
              symbol
            0    IBM
        """
        with failures_logged("read", table_name):
            query = read_query(
                Read,
                client_id=self._tables.client_id,
                table=table_name,
                columns=columns,
                where=filters or None,
                version=version,
                timestamp=as_of_timestamp,
                limit=None,
                min_version=None,
                version_timeout=0.0,
                engine=None,
            )
            return to_pandas(self._tables.read(query))

    def optimize_table(self, table_name: str, zorder_columns: list[str] | None = None) -> None:
        """Compact the small files of a table; with columns also order its rows along them.

        Args:
            table_name: Name of the table.
            zorder_columns: Columns that filters name; then compacting is the same one pass.

        Raises:
            TableNotFound: There is no such table.
            SchemaMismatch: No such column, or it partitions the table.

        Examples:
            >>> lake.optimize_table("prices", zorder_columns=["symbol"])
        """
        with failures_logged("optimize", table_name):
            common = common_of(self._tables, table_name, None, lane="maintenance")
            self._tables.order(optimize_request(zorder=zorder_columns, **common))

    def vacuum_table(
        self, table_name: str, retention_hours: int = 168, *, force: bool = False
    ) -> None:
        """Remove the files that no version of the last hours needs.

        Args:
            table_name: Name of the table.
            retention_hours: Hours whose versions are kept.
            force: Allow less than 168; for when nobody else uses the table.

        Raises:
            InvalidRequest: Less than 168 hours without ``force``.
            TableNotFound: There is no such table.

        Examples:
            >>> lake.vacuum_table("prices")
        """
        with failures_logged("vacuum", table_name):
            common = common_of(self._tables, table_name, None, lane="maintenance")
            draft = vacuum_request(
                retention_hours=retention_hours, dry_run=False, force=force, **common
            )
            self._tables.order(draft)

    def get_table_history(self, table_name: str) -> pandas.DataFrame:
        """Read the history of a table: one row for each version, the newest first.

        Args:
            table_name: Name of the table.

        Raises:
            TableNotFound: There is no such table.

        Examples:
            >>> lake.get_table_history("prices")[["version", "operation"]].values.tolist()
            [[0, 'WRITE']]
        """
        with failures_logged("history", table_name):
            return to_pandas(self._tables.history(_checked(table_name), _WHOLE_HISTORY))

    def table_exists(self, table_name: str) -> bool:
        """Tell whether there is a Delta table of that name; whatever else is wrong is raised.

        Args:
            table_name: Name of the table.

        Examples:
            >>> lake.table_exists("prices"), lake.table_exists("pirces")
            (True, False)
        """
        with failures_logged("exists", table_name):
            return self._tables.exists(_checked(table_name))

    def delete_table(self, table_name: str) -> None:
        """Remove a table with all its versions, for good; a warning if there is none.

        Args:
            table_name: Name of the table.

        Examples:
            >>> lake.delete_table("prices")
            >>> lake.table_exists("prices")
            False
        """
        with failures_logged("delete", table_name):
            try:
                if self._tables.exists(_checked(table_name)):
                    common = common_of(self._tables, table_name, None)
                    self._tables.order(drop_request(confirm=table_name, **common))
                    return
            except TableNotFound:  # gone in between
                pass
            logger.warning("table %s: nothing to delete, there is no such table", table_name)

    def close(self) -> None:
        """End threads and connections. What a Redis that is down keeps waiting stays staged.

        Examples:
            >>> lake = DeltaLakeManager("./lake")
            >>> lake.close()
        """
        self._tables.close()

    def __enter__(self) -> DeltaLakeManager:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def has_queue(settings: Settings) -> bool:
    """Tell whether somebody said where the queue is; the default of ``redis_url`` is nobody."""
    return bool({"redis_url", "broker_url"} & settings.model_fields_set)


#: The methods have an argument of that name.
_checked = table_name
