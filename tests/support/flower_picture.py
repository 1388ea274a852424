"""``python -m tests.support.flower_picture FILE``: the picture of Flower that the docs show."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pyarrow as pa
from PIL import Image

from deltaq.client import Client
from deltaq.worker import embedded
from tests.support.flower import Browser, FlowerServer, browser
from tests.support.waiting import wait_until

ROWS = pa.table({"symbol": ["IBM", "SAP"], "price": [100.5, 120.25]})


def take(file: Path) -> None:
    """Run a system, do something of each kind, and take a picture of its tasks."""
    with tempfile.TemporaryDirectory() as folder, embedded(f"{folder}/lake", spark="off") as system:
        system.wait_ready()
        url = system.settings.redis_url.get_secret_value()
        flower = FlowerServer(Path(folder) / "flower.log", {"redis_url": url})
        try:
            with browser(flower.url, width=1760, height=900) as page, system.client() as client:
                wait_until(lambda: _is_shown(client, page), within=30)
                _work(client)
                wait_until(lambda: _states(page) == {"SUCCESS", "FAILURE"}, within=30)
                page.find(".tasks-page")[0].screenshot(str(file))
                _shrink(file)
        finally:
            flower.stop()


def _is_shown(client: Client, page: Browser) -> bool:
    client.tables()
    return bool(_states(page))


def _states(page: Browser) -> set[str]:
    return {row.get("State", "") for row in page.tasks()} - {""}


def _work(client: Client) -> None:
    client.append("prices", ROWS).result(30)
    client.merge("prices", ROWS, keys=["symbol"]).result(30)
    client.append("prices", pa.table({"price": ["cheap"]})).exception(30)
    client.read("prices").result(30)
    client.optimize("prices").result(30)


def _shrink(file: Path) -> None:
    """Write a picture anew with a palette, a third of the size."""
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


if __name__ == "__main__":
    take(Path(sys.argv[1]))
