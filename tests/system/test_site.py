"""The documentation site is built as `make docs` builds it, and holds together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import deltaq.client
from deltaq.client import AsyncClient, Client
from deltaq.tasks.errors import error_classes
from tests.support.pages import ROOT

pytestmark = pytest.mark.timeout(120)


@dataclass
class Page(HTMLParser):
    """What a built page offers and asks for.

    Attributes:
        anchors: The ids in it.
        links: Where it leads.
        parts: What a browser fetches to show it.
    """

    anchors: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given["id"]} if "id" in given else set()
        match tag:
            case "a" if "href" in given:
                self.links.add(given["href"])
            case "link" if "href" in given:
                self.parts.add(given["href"])
            case "img" | "script" | "iframe" if "src" in given:
                self.parts.add(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """Each page of a site that was built strictly."""
    folder = tmp_path_factory.mktemp("site").resolve()
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {}
    for file in folder.rglob("*.html"):
        if file.name != "404.html":  # it is shown at any address, and so links from the root
            pages[file] = Page()
            pages[file].feed(file.read_text())
    return pages


def test_each_link_and_anchor_inside_the_site_leads_somewhere(site: dict[Path, Page]) -> None:
    assert len(site) > 30
    assert [problem for file, page in site.items() for problem in _broken(file, page, site)] == []


def test_a_browser_fetches_nothing_from_elsewhere(site: dict[Path, Page]) -> None:
    parts = {part for page in site.values() for part in page.parts}

    assert {part for part in parts if urlsplit(part).netloc} == set()


def test_each_public_name_is_in_the_reference(site: dict[Path, Page]) -> None:
    there = set().union(*(page.anchors for page in site.values()))
    errors = {kind.__name__: f"deltaq.tasks.errors.{kind.__name__}" for kind in error_classes()}
    names = {errors.get(name, f"deltaq.client.{name}") for name in deltaq.client.__all__}

    # One that is missing goes to a page in docs/reference.
    assert names - there == set()


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_each_method_of_a_client_is_in_its_reference(
    site: dict[Path, Page], client: type[object]
) -> None:
    there = set().union(*(page.anchors for page in site.values()))
    methods = {name for name in dir(client) if not name.startswith("_")}

    assert {f"deltaq.client.{client.__name__}.{name}" for name in methods} - there == set()


def _broken(file: Path, page: Page, site: dict[Path, Page]) -> Iterator[str]:
    for link in sorted(page.links | page.parts):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue  # elsewhere; tests need no network
        target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
        if not target.is_file():
            yield f"{file.name}: {link}: no such page"
        elif parts.fragment and unquote(parts.fragment) not in site[target].anchors:
            yield f"{file.name}: {link}: no such anchor"
