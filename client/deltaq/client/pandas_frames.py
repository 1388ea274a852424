"""From what was read to a pandas DataFrame in which every value is still itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pyarrow as pa

if TYPE_CHECKING:
    import pandas


def to_pandas(rows: pa.Table | pa.RecordBatch) -> pandas.DataFrame:
    """Turn rows that were read into a pandas DataFrame, without loss and by type alone.

    The dtype of a column depends on its type in the table, never on whether a null happens to
    be among these rows: integers become pandas' nullable ``Int8`` to ``Int64`` (pyarrow's own
    ``to_pandas()`` makes floats of them when there is a null, and rounds those above 2**53),
    booleans ``boolean``, strings pandas' string dtype, timestamps ``datetime64[us, UTC]`` or,
    without a zone, ``datetime64[us]``. Floats stay NumPy's, with NaN for null. Dates, decimals,
    binary and nested values are Python objects: ``datetime.date``, ``Decimal``, ``bytes``, ...

    Args:
        rows: What ``client.read(...).result()`` or ``client.scan(...)`` gave.

    Examples:
        >>> rows = pa.table({"symbol": ["IBM", None], "qty": [1, None]})
        >>> to_pandas(rows).dtypes.to_dict()
        {'symbol': <StringDtype(na_value=<NA>)>, 'qty': Int64Dtype()}
    """
    import pandas as pd

    dtypes = {
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
        pa.string(): pd.StringDtype(na_value=pd.NA),
    }
    return cast("pandas.DataFrame", rows.to_pandas(types_mapper=dtypes.get))
