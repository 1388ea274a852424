"""The demo's data: real prices that packages on PyPI ship, and a generated million of bars.

Every table has the key columns ``symbol`` and ``ts``, and no key twice.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from arch.data import nasdaq, sp500
from vega_datasets import data

from deltaq.worker.demo.writers import Part

KEYS = ("symbol", "ts")

INDICES, STOCKS, BARS = "indices", "stocks", "bars"

_SYMBOLS = 200
_SEED = 20240102
_FIRST_MINUTE = np.datetime64("2024-01-02T09:30", "m")
_TIMESTAMP = pa.timestamp("us", tz="UTC")

#: Rows in one frame: what a process that collects market data would hand over at once.
_FRAME_ROWS = {INDICES: 50, STOCKS: 20, BARS: 5000}


def load_datasets(rows: int) -> dict[str, pa.Table]:
    """Load the real tables and generate ``rows`` bars, the same on every call."""
    return {INDICES: load_indices(), STOCKS: load_stocks(), BARS: make_bars(rows)}


def load_indices() -> pa.Table:
    """Load daily S&P 500 and Nasdaq prices from 1999 to 2018, which the package arch ships."""
    frames = []
    for symbol, frame in (("^GSPC", sp500.load()), ("^IXIC", nasdaq.load())):
        columns = {name.lower().replace(" ", "_"): frame[name] for name in frame.columns}
        symbols = pa.array([symbol] * len(frame))
        frames.append(pa.table({"symbol": symbols, "ts": _utc(frame.index), **columns}))
    return pa.concat_tables(frames)


def load_stocks() -> pa.Table:
    """Load monthly prices of five stocks from 2000 to 2010, which vega_datasets ships."""
    frame = data.stocks()
    return pa.table({"symbol": frame["symbol"], "ts": _utc(frame["date"]), "price": frame["price"]})


def make_bars(rows: int) -> pa.Table:
    """Generate minute bars of 200 symbols, each a random walk; in the order of their time."""
    random_numbers = np.random.default_rng(_SEED)
    minutes = -(-rows // _SYMBOLS)
    steps = random_numbers.normal(0, 0.001, size=(minutes, _SYMBOLS))
    close = 100 * np.exp(steps.cumsum(axis=0))
    open_ = close * np.exp(-steps)
    spread = 1 + np.abs(random_numbers.normal(0, 0.0005, size=close.shape))
    columns = {
        "open": open_,
        "high": np.maximum(open_, close) * spread,
        "low": np.minimum(open_, close) / spread,
        "close": close,
    }
    names = pa.array([f"S{number:03}" for number in range(_SYMBOLS)])
    minute, symbol = np.divmod(np.arange(rows), _SYMBOLS)
    return pa.table(
        {
            "symbol": names.take(pa.array(symbol)),
            "ts": _utc(_FIRST_MINUTE + minute),
            **{name: values.ravel()[:rows].round(2) for name, values in columns.items()},
            "volume": random_numbers.integers(0, 10_000, size=rows),
        }
    )


def make_corrections(bars: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Make corrected prices for one bar in a hundred, and a few bars that come late.

    Returns:
        Rows whose keys are in ``bars``, and rows whose keys are not.
    """
    count = max(1, bars.num_rows // 100)
    chosen = np.random.default_rng(_SEED).choice(bars.num_rows, size=count, replace=False)
    corrected = bars.take(pa.array(np.sort(chosen)))
    for name in ("open", "high", "low", "close"):
        index = corrected.schema.get_field_index(name)
        prices = pc.round(pc.multiply(corrected[name], 1.01), ndigits=2)
        corrected = corrected.set_column(index, name, prices)
    late = bars.slice(0, max(1, count // 10))
    next_year = pc.add(late["ts"], pa.scalar(366 * 86_400_000_000, pa.duration("us")))
    return corrected, late.set_column(late.schema.get_field_index("ts"), "ts", next_year)


def make_parts(datasets: Mapping[str, pa.Table], folder: Path) -> list[Part]:
    """Write each table as an Arrow file and cut it into frames, in no particular order."""
    parts = []
    for name, table in datasets.items():
        file = folder / f"{name}.arrow"
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        size = _FRAME_ROWS[name]
        for offset in range(0, table.num_rows, size):
            length = min(size, table.num_rows - offset)
            parts.append(Part(table=name, file=file, offset=offset, length=length))
    random.Random(_SEED).shuffle(parts)
    return parts


def _utc(moments: npt.ArrayLike) -> pa.Array:
    return pa.array(np.asarray(moments, dtype="datetime64[us]")).cast(_TIMESTAMP)
