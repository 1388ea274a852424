"""Delta's JARs: pinned, and needed from nowhere once they are there."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ElementTree
from importlib import resources
from pathlib import Path

import pytest

from deltaq.tasks.errors import ConfigurationError
from deltaq.tasks.settings import Settings, load_settings
from deltaq.worker import jars
from deltaq.worker.jars import PINNED, missing_jars, provide_jars

NO_JAVA = Path("/nowhere/java")


def settings_for(folder: Path) -> Settings:
    return load_settings(lake=folder / "lake", jars=folder / "jars")


def test_every_jar_that_is_fetched_is_pinned() -> None:
    tree = ElementTree.fromstring((resources.files(jars.__package__) / "jars.xml").read_text())

    named = {f"{d.get('name')}-{d.get('rev')}.jar" for d in tree.iter("dependency")}

    assert named == set(PINNED)


def test_a_jar_that_is_not_as_pinned_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "delta-storage-4.4.0.jar").write_bytes(b"half a download")

    assert missing_jars(tmp_path) == list(PINNED)


def test_a_folder_that_cannot_be_used_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "jars").write_text("a file, not a folder")

    with pytest.raises(ConfigurationError, match=r"jars: .* cannot be used.*set 'jars'"):
        provide_jars(settings_for(tmp_path), NO_JAVA, threading.Event())
