"""The page about scale says what was measured and simulated last."""

from __future__ import annotations

from benchmarks.scale_page import PAGE, PICTURE, page, simulated
from benchmarks.simulation.picture import drawing


def test_the_page_has_the_last_measurements() -> None:
    assert PAGE.read_text() == page()


def test_the_picture_is_of_the_last_simulation() -> None:
    found = simulated()
    assert found.what.startswith("a simulation")
    assert found.is_clean
    assert PICTURE.read_text() == drawing(found)
