"""How DeltaLakeManager writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deltaq.client.managed_tables import Tables, common_of, failures_logged
from deltaq.client.requests import Common, append_request, merge_request, overwrite_request
from deltaq.tasks.request import FrameRequest, SchemaMode

if TYPE_CHECKING:  # it takes a while to import
    import pandas

_MODES = ("append", "overwrite", "merge")


class ManagedWrites:
    """The writing methods of DeltaLakeManager."""

    _tables: Tables

    def create_or_update_table(
        self,
        df: pandas.DataFrame,
        table_name: str,
        partition_columns: list[str] | None = None,
        mode: str = "append",
        *,
        merge_keys: list[str] | None = None,
        schema_mode: SchemaMode | None = None,
        request_id: str | None = None,
    ) -> None:
        """Write a frame to a table, which the first write creates.

        Args:
            df: The rows; any frame that a ``Client`` takes.
            table_name: Name of the table.
            partition_columns: Columns that partition it when this creates it.
            mode: ``append``; ``overwrite``, which replaces all rows; or ``merge``, which updates
                the rows with the same ``merge_keys`` and inserts the others.
            merge_keys: Columns that identify a row, for ``merge``.
            schema_mode: ``merge``: columns that the table lacks are added to it.
            request_id: Identity of the write: the same once more is not applied again.

        Raises:
            ValueError: Another mode; ``merge`` without ``merge_keys``, or they without it.
            RequestError: The rows do not fit; nothing was written. The type says why.

        Examples:
            >>> lake.create_or_update_table(frame, "prices", mode="merge", merge_keys=["symbol"])
            >>> len(lake.read_table("prices"))
            2
        """
        with failures_logged("write", table_name):
            if mode not in _MODES:
                raise ValueError(f"mode {mode!r}: one of {', '.join(_MODES)}")
            if mode == "merge" and not merge_keys:
                raise ValueError("mode='merge' needs merge_keys=[...], the columns of a row's key")
            if mode != "merge" and merge_keys is not None:
                raise ValueError(f"merge_keys is for mode='merge', not for mode={mode!r}")
            common = common_of(self._tables, table_name, request_id)
            partitions = partition_columns or None
            draft: FrameRequest
            if mode == "merge":
                draft = _upsert(merge_keys or [], None, partitions, schema_mode, common)
            elif mode == "overwrite":
                draft = overwrite_request(
                    where=None, partition_by=partitions, schema_mode=schema_mode, **common
                )
            else:
                draft = append_request(
                    partition_by=partitions, schema_mode=schema_mode, dedupe_on=None, **common
                )
            self._tables.write(draft, df, again=request_id is not None)

    def merge_upsert(
        self,
        df: pandas.DataFrame,
        table_name: str,
        merge_keys: list[str],
        update_columns: list[str] | None = None,
        *,
        schema_mode: SchemaMode | None = None,
        request_id: str | None = None,
    ) -> None:
        """Update the rows of a table that have the keys of a frame's, and insert the others whole.

        Args:
            df: At most one row for each combination of keys.
            table_name: Name of the table, which is created if need be.
            merge_keys: Columns that must all be equal. A null matches nothing, as in SQL.
            update_columns: Columns to update in matched rows; all by default.
            schema_mode: ``merge``: columns that the table lacks are added to it.
            request_id: Identity of the write: the same once more is not applied again.

        Raises:
            DuplicateKeys: Two rows have the same keys, which are named; nothing was written.
            RequestError: The rows do not fit; nothing was written. The type says why.

        Examples:
            >>> fixes = pd.DataFrame({"symbol": ["IBM"], "price": [102.0]})
            >>> lake.merge_upsert(fixes, "prices", ["symbol"])
            >>> lake.read_table("prices", filters=["symbol = 'IBM'"])["price"].tolist()
            [102.0]
        """
        with failures_logged("merge", table_name):
            common = common_of(self._tables, table_name, request_id)
            draft = _upsert(merge_keys, update_columns, None, schema_mode, common)
            self._tables.write(draft, df, again=request_id is not None)


def _upsert(
    keys: Sequence[str],
    update: Sequence[str] | None,
    partitions: Sequence[str] | None,
    schema_mode: SchemaMode | None,
    common: Common,
) -> FrameRequest:
    return merge_request(
        keys=keys,
        update=update,
        insert=True,
        delete_when=None,
        partition_by=partitions,
        schema_mode=schema_mode,
        **common,
    )
