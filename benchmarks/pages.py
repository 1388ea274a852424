"""``python -m benchmarks.pages``: put what was measured last into the README and its own page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from benchmarks.results import Result

_ROOT = Path(__file__).parents[1]
_LATEST = _ROOT / "benchmarks" / "results" / "latest.json"
_README, _PAGE = _ROOT / "README.md", _ROOT / "docs" / "benchmarks.md"
#: Those that tell most, for the README.
_CHOSEN = (
    "append_idle",
    "append_async_10",
    "append_sync_10",
    "submit",
    "merge_idle",
    "read",
    "observed",
    "backfill_parquet",
    "backfill_live",
    "maintained",
    "live_beside",
    "s3_append_idle",
    "s3_append_async_10",
    "cluster_merge",
)


def measured() -> list[Result]:
    """Read what was measured last."""
    return msgspec.json.decode(_LATEST.read_bytes(), type=list[Result])


def put(text: str, marker: str, new: str) -> str:
    """Replace what stands in a page between ``<!-- marker -->`` and ``<!-- /marker -->``."""
    between = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", re.DOTALL)
    return between.sub(lambda found: found[1] + new + found[2], text)


def chosen(results: Iterable[Result]) -> str:
    """Write the results that the README has, and how many goals were missed in all."""
    found = list(results)
    missed = sum(not result.reached for result in found)
    some = [result for name in _CHOSEN for result in found if result.name == name]
    return f"{table(some)}\nOf {len(found)} goals {len(found) - missed} are reached.\n"


def table(results: Iterable[Result]) -> str:
    """Write results as a Markdown table."""
    lines = ["| work | deltaq | beside it | ratio | goal |", "|---|---|---|---|---|"]
    for result in results:
        beside = ratio = ""
        if result.baseline is not None:
            beside = f"{_amount(result.baseline)} {result.unit}, {result.baseline_name}"
        if result.ratio is not None:
            ratio = f"{result.ratio:g} x"
        goal = result.goal if result.reached else f"{result.goal}: missed"
        lines.append(
            f"| {result.name} | {_amount(result.ours)} {result.unit} | {beside} | {ratio} | {goal} |"
        )
    return "\n".join(lines) + "\n"


def _amount(value: float) -> str:
    return f"{value:g}" if value < 10_000 else f"{value:,.0f}"


if __name__ == "__main__":
    for page, text in ((_README, chosen(measured())), (_PAGE, table(measured()))):
        page.write_text(put(page.read_text(), "numbers", text))
