"""The changelog and the version tell the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_top_entry_of_the_changelog_is_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    entries = re.findall(r"^## \[(.+?)\] - (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)

    version, date = entries[0]
    assert version == project["version"]
    assert date == "Unreleased" or re.fullmatch(r"\d{4}-\d\d-\d\d", date)
