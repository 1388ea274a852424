"""The JARs of Delta and of S3: pinned, and needed from nowhere once they are there."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ElementTree
from importlib import resources
from pathlib import Path
from typing import get_args

import pyspark
import pytest

from deltaq.tasks.errors import ConfigurationError
from deltaq.tasks.settings import Settings, load_settings
from deltaq.worker import cli_jars
from deltaq.worker.jars import JarSet, jar_sets, missing_jars, pinned_jars, provide_jars

PACKAGE = "deltaq.worker"
NO_JAVA = Path("/nowhere/java")


def settings_for(folder: Path) -> Settings:
    return load_settings(lake=folder / "lake", jars=folder / "jars")


@pytest.mark.parametrize("jars", get_args(JarSet))
def test_every_jar_that_is_fetched_is_pinned(jars: JarSet) -> None:
    tree = ElementTree.fromstring((resources.files(PACKAGE) / "jars.xml").read_text())

    named = {
        f"{d.get('name')}-{d.get('rev')}.jar"
        for d in tree.iter("dependency")
        if d.get("conf") == f"{jars}->master"
    }

    assert named == set(pinned_jars(jars))


def test_those_for_s3_are_few_and_repeat_nothing_of_spark() -> None:
    bundled = {file.name for file in (Path(pyspark.__file__).parent / "jars").iterdir()}

    assert len(pinned_jars("s3")) == 38
    assert not set(pinned_jars("s3")) & bundled
    assert not [name for name in pinned_jars("s3") if name.startswith("bundle-")]


@pytest.mark.parametrize(
    ("places", "needed"),
    [
        ({"lake": "/lake"}, ["delta"]),
        ({"lake": "s3://bucket/lake"}, ["delta", "s3"]),
        ({"lake": "/lake", "staging": "s3://bucket/staged"}, ["delta", "s3"]),
    ],
)
def test_those_for_s3_are_needed_only_there(places: dict[str, str], needed: list[JarSet]) -> None:
    assert jar_sets(load_settings(**places)) == needed


def test_a_jar_that_is_not_as_pinned_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "delta-storage-4.4.0.jar").write_bytes(b"half a download")

    assert missing_jars(tmp_path, "delta") == list(pinned_jars("delta"))


def test_a_folder_that_cannot_be_used_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "jars").write_text("a file, not a folder")

    with pytest.raises(ConfigurationError, match=r"jars: .* cannot be used.*set 'jars'"):
        provide_jars(settings_for(tmp_path), NO_JAVA, threading.Event())


def test_who_only_fetches_jars_need_not_have_a_lake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DELTAQ_LAKE", raising=False)
    assert cli_jars._settings(None).lake == tmp_path
    monkeypatch.setenv("DELTAQ_LAKE", "gs://bucket/lake")
    with pytest.raises(ConfigurationError, match="gs://"):
        cli_jars._settings(None)
    monkeypatch.delenv("DELTAQ_LAKE")
    monkeypatch.setenv("DELTAQ_CONCURRENCY", "many")
    with pytest.raises(ConfigurationError, match="whole number"):
        cli_jars._settings(None)
