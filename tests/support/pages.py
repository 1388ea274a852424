"""The written pages: their code blocks, tables and what stands between markers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from deltaq.tasks.settings import MiB, Settings

ROOT = Path(__file__).parents[2]
#: Those whose code blocks are run.
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
]
#: All that is written for readers.
TEXTS = sorted({*PAGES, *(ROOT / "docs").rglob("*.md"), ROOT / "CHANGELOG.md"})

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(kw_only=True)
class Block:
    """A code block of a page.

    Attributes:
        place: Page and line, for messages.
        language: What stands behind the opening fence.
        text: What is in it.
        output: The ``text`` block right after it, if there is one.
    """

    place: str
    language: str
    text: str
    output: str | None = None


def blocks(page: Path) -> list[Block]:
    """List the code blocks of a page; an output belongs to the block before it."""
    text = page.read_text()
    found: list[Block] = []
    end = 0
    for fence in _FENCE.finditer(text):
        language, content = fence[1], fence[2]
        if language == "text" and found and not text[end : fence.start()].strip():
            found[-1].output = content
        else:
            line = text.count("\n", 0, fence.start(2)) + 1
            place = f"{page.relative_to(ROOT)}:{line}"
            found.append(Block(place=place, language=language, text=content))
        end = fence.end()
    return found


def between(page: Path, marker: str) -> str:
    """Return what stands between ``<!-- marker -->`` and ``<!-- /marker -->``."""
    found = re.search(rf"<!-- {marker} -->\n(.*?)<!-- /{marker} -->", page.read_text(), re.DOTALL)
    assert found, f"{page}: no {marker} between markers"
    return found[1]


def rows(table: str) -> list[list[str]]:
    """List the cells of a Markdown table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def settings_table() -> str:
    """Write the table that the page about settings must have."""
    lines = ["| setting | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else _default(name, field.default)
        lines.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def _default(name: str, value: object) -> str:
    match value:
        case None | {} | ():
            return ""
        case SecretStr():
            return f"`{value.get_secret_value()}`"
        case tuple():
            return f"`{','.join(value)}`"
        case bool():
            return f"`{str(value).lower()}`"
        case int() if name.endswith("_bytes"):
            return f"{value // MiB} MiB"
        case int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value)
    return f"`{value}`"
