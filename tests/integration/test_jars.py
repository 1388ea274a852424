"""Fetching Delta's JARs with the real Ivy, from a repository that is a folder."""

from __future__ import annotations

import shutil
import threading
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deltaq.tasks.errors import ConfigurationError, EngineUnavailable
from deltaq.tasks.settings import Settings, load_settings
from deltaq.worker import cli_jars, jars
from deltaq.worker.jars import missing_jars, pinned_jars, provide_jars
from deltaq.worker.java import find_java

IVY_SETTINGS = """
<ivysettings>
  <settings defaultResolver="here"/>
  <resolvers>{resolver}</resolvers>
</ivysettings>
"""
MAVEN = '<ibiblio name="here" m2compatible="true" root="{}"/>'
CLOSED_PORT = MAVEN.format("http://127.0.0.1:9/")
POM = """
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>{group}</groupId>
  <artifactId>{artifact}</artifactId>
  <version>{version}</version>
</project>
"""
JAVA = find_java().executable
DELTA, S3 = pinned_jars("delta"), pinned_jars("s3")
JARS_XML = Path(jars.__file__).with_name("jars.xml")


@pytest.fixture
def cache(spark_settings: Settings) -> Path:
    """The folder in which this user's JARs are."""
    provide_jars(spark_settings, JAVA, threading.Event(), s3=True)
    return spark_settings.jars


@pytest.fixture
def repository(tmp_path: Path, cache: Path) -> str:
    """The resolver of a Maven repository on this disk."""
    for jar in ElementTree.parse(JARS_XML).iter("dependency"):
        group, artifact, version = (jar.attrib[name] for name in ("org", "name", "rev"))
        folder = tmp_path / "maven" / Path(*group.split(".")) / artifact / version
        folder.mkdir(parents=True)
        name = f"{artifact}-{version}"
        (folder / f"{name}.jar").symlink_to(cache / f"{name}.jar")
        pom = POM.format(group=group, artifact=artifact, version=version)
        (folder / f"{name}.pom").write_text(pom)
    return MAVEN.format((tmp_path / "maven").as_uri())


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def settings_for(folder: Path, resolver: str) -> Settings:
    file = folder / "ivysettings.xml"
    file.write_text(IVY_SETTINGS.format(resolver=resolver))
    return load_settings(lake=folder / "lake", jars=folder / "jars", ivy_settings=file)


def test_workers_that_start_at_once_fetch_the_jars_once(tmp_path: Path, repository: str) -> None:
    settings = settings_for(tmp_path, repository)

    with ThreadPoolExecutor(4) as workers:
        starts = [workers.submit(provide_jars, settings, JAVA, threading.Event()) for _ in range(4)]
        found = [start.result() for start in starts]

    assert found == [[settings.jars / name for name in DELTA]] * 4
    assert missing_jars(settings.jars, "delta") == []
    assert names_in(settings.jars) == {".lock", *DELTA}


def test_those_for_s3_are_fetched_when_s3_is_used_and_the_others_not_again(
    tmp_path: Path, repository: str
) -> None:
    settings = settings_for(tmp_path, repository)
    provide_jars(settings, JAVA, threading.Event())
    assert names_in(settings.jars) == {".lock", *DELTA}
    shutil.rmtree(tmp_path / "maven" / "io")

    s3 = load_settings(
        lake="s3://bucket/lake", jars=settings.jars, ivy_settings=settings.ivy_settings
    )

    assert provide_jars(s3, JAVA, threading.Event()) == [
        settings.jars / name for name in (*DELTA, *S3)
    ]
    assert names_in(settings.jars) == {".lock", *DELTA, *S3}


def test_a_damaged_jar_is_fetched_again(tmp_path: Path, repository: str) -> None:
    settings = settings_for(tmp_path, repository)
    settings.jars.mkdir()
    (settings.jars / "delta-storage-4.4.0.jar").write_bytes(b"half a download")

    provide_jars(settings, JAVA, threading.Event())

    assert missing_jars(settings.jars, "delta") == []


def test_jars_that_are_there_need_neither_ivy_nor_a_network(tmp_path: Path, cache: Path) -> None:
    offline = load_settings(lake=tmp_path, jars=cache)

    assert len(provide_jars(offline, Path("/nowhere/java"), threading.Event())) == len(DELTA)


def test_the_verb_prints_where_each_is(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli_jars.jars(lake=str(tmp_path), s3=True)

    assert capsys.readouterr().out.splitlines() == [str(cache / name) for name in (*DELTA, *S3)]


def test_an_unreachable_repository_says_what_to_do(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, CLOSED_PORT)

    with pytest.raises(ConfigurationError) as caught:
        provide_jars(settings, JAVA, threading.Event())

    for words in ("could not be fetched", "network", "ivy_settings", str(settings.jars)):
        assert words in caught.value.message
    assert names_in(settings.jars) == {".lock"}


def test_a_fetch_ends_at_once_when_the_worker_stops(tmp_path: Path) -> None:
    stopping = threading.Event()
    stopping.set()

    with pytest.raises(EngineUnavailable, match="being stopped"):
        provide_jars(settings_for(tmp_path, CLOSED_PORT), JAVA, stopping)
