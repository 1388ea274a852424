"""A first program: append, merge, read. It needs nothing that runs already."""

import tempfile

import pandas as pd

from deltaq.worker import embedded

with (
    tempfile.TemporaryDirectory() as lake,
    embedded(lake) as system,  # a private Redis and a worker
    system.client() as client,
):
    prices = pd.DataFrame({"symbol": ["MSFT", "AMZN"], "price": [39.81, 64.56]})
    appended = client.append("prices", prices)  # a Future, at once

    corrected = pd.DataFrame({"symbol": ["AMZN", "IBM"], "price": [68.87, 100.52]})
    merged = client.merge("prices", corrected, keys="symbol")

    print("append made version", appended.result().version)
    print("merge made version", merged.result().version)
    print(client.read("prices").result().to_pandas().sort_values("symbol").to_string(index=False))
