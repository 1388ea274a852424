"""What the pages say of names, settings and errors is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmarks.pages import chosen, measured, table

from deltaq.tasks.errors import (
    ConfigurationError,
    DeltaqError,
    OutcomeError,
    RequestError,
    TransientError,
    error_classes,
)
from deltaq.tasks.settings import SECRETS
from deltaq.worker import spark_conf
from tests.fault.matrix import RUNS
from tests.support.pages import ROOT, TEXTS, between, blocks, rows, settings_table

CATALOGUE = ROOT / "docs" / "errors.md"
_LINK = re.compile(r"\[[^]]+\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_TEST = re.compile(r"`(test_\w+)`")


def test_the_table_of_settings_is_that_of_the_code() -> None:
    assert between(ROOT / "docs" / "settings.md", "settings") == settings_table()


@pytest.mark.parametrize("page", ["settings.md", "how-to/security.md"])
def test_each_secret_is_named_among_those_that_files_may_hold(page: str) -> None:
    told = next(p for p in (ROOT / "docs" / page).read_text().split("\n\n") if "`spark_conf`" in p)
    assert [name for name in SECRETS if f"`{name}`" not in told] == []


def test_the_catalogue_has_each_error_in_the_order_of_the_tree() -> None:
    assert re.findall(r"^### (\w+)$", between(CATALOGUE, "errors"), re.MULTILINE) == [
        kind.__name__ for kind in error_classes()
    ]


@pytest.mark.parametrize("kind", error_classes())
def test_the_catalogue_tells_of_an_error_when_why_and_what_to_do(kind: type[DeltaqError]) -> None:
    section = (
        between(CATALOGUE, "errors").partition(f"### {kind.__name__}\n")[2].partition("\n#")[0]
    )
    retryable = "retryable" if kind.retryable else "not retryable"

    assert section.splitlines()[1] == f"`{kind.code}`, {retryable}"
    assert re.findall(r"^- \*\*(.+?)\*\*: \S", section, re.MULTILINE) == [
        "When",
        "Why",
        "What to do",
    ]


def test_the_readme_has_each_error_under_its_kind() -> None:
    section = (ROOT / "README.md").read_text().partition("## Errors")[2].partition("\n## ")[0]
    told = {row[0]: re.findall(r"`(\w+)`", row[2]) for row in rows(section)}

    kinds = (ConfigurationError, RequestError, TransientError, OutcomeError)
    for kind in kinds:
        children = [child.__name__ for child in error_classes(kind)[1:]]
        assert sorted(told.pop(f"`{kind.__name__}`")) == sorted(children)
    assert told == {}


def test_each_setting_of_spark_has_its_value_and_a_reason() -> None:
    table = (ROOT / "docs" / "spark.md").read_text().partition("Taken from settings")[0]
    told = {row[0].strip("`"): row[1].strip("`") for row in rows(table[table.index("| setting") :])}
    reasons = [row[2] for row in rows(table[table.index("| setting") :])]

    assert told == {**spark_conf.CONF, **spark_conf.LOCAL}
    assert all(reasons)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        if anchor:
            assert anchor in {_anchor(h) for h in _HEADING.findall(file.read_text())}, anchor


def test_tests_that_pages_name_are_there() -> None:
    sources = (ROOT / "tests").rglob("test_*.py")
    there = set(
        re.findall(r"^def (test_\w+)", "".join(f.read_text() for f in sources), re.MULTILINE)
    )

    named = {name: page.name for page in TEXTS for name in _TEST.findall(page.read_text())}

    assert {name: page for name, page in named.items() if name not in there} == {}


def test_the_program_in_the_readme_is_the_quickstart() -> None:
    program = (ROOT / "examples" / "quickstart.py").read_text()
    shown = next(block for block in blocks(ROOT / "README.md") if block.language == "python")

    assert program.partition('"""\n\n')[2] == shown.text


def test_the_numbers_are_those_last_measured() -> None:
    assert between(ROOT / "README.md", "numbers") == chosen(measured())
    assert between(ROOT / "docs" / "benchmarks.md", "numbers") == table(measured())


def test_the_cells_that_hold_are_those_of_the_matrix() -> None:
    (told,) = re.findall(r"All (\d+) cells hold", (ROOT / "README.md").read_text())
    assert int(told) == sum(len(run.cells) for run in RUNS)


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    ahead = {ROOT / "README.md"}
    while ahead:
        page = ahead.pop()
        reached.add(page)
        linked = {(page.parent / t).resolve() for t, _ in _LINK.findall(page.read_text()) if t}
        ahead |= {page for page in linked if page.suffix == ".md"} - reached

    # The site's changelog is the one at the root, to which the README leads.
    assert set(TEXTS) - reached == {ROOT / "docs" / "changelog.md"}


def test_the_page_of_decisions_has_each_with_its_title() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = [row[1] for row in rows((folder / "index.md").read_text())]

    assert listed == [
        f"[{file.read_text().partition('. ')[2].partition(chr(10))[0]}]({file.name})"
        for file in sorted(folder.glob("0*.md"))
    ]


def _anchor(heading: str) -> str:
    """Make the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
