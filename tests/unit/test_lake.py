"""What the lake says of tables that are not there."""

from __future__ import annotations

from pathlib import Path

from deltaq.worker.lake import Lake


def test_a_misspelt_table_is_told_with_the_one_that_may_be_meant(tmp_path: Path) -> None:
    log = tmp_path / "prices" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020d}.json").touch()
    lake = Lake(tmp_path)

    assert str(lake.missing("prises")) == (
        "there is no table prises in the lake (did you mean 'prices'?)"
    )
    assert str(lake.missing("quotes")) == "there is no table quotes in the lake"
    assert lake.missing("prises").table == "prises"
