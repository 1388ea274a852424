"""``python -m benchmarks.readme``: put what was measured last into the README."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from benchmarks.results import Result

_ROOT = Path(__file__).parents[1]
LATEST = _ROOT / "benchmarks" / "results" / "latest.json"
README = _ROOT / "README.md"
_NUMBERS = re.compile(r"(<!-- numbers -->\n).*?(<!-- /numbers -->)", re.DOTALL)


def numbers(latest: Path) -> str:
    """Write the results of a file as a Markdown table; nothing when there is none."""
    if not latest.exists():
        return ""
    lines = ["| work | deltaq | beside it | ratio | goal |", "|---|---|---|---|---|"]
    for result in msgspec.json.decode(latest.read_bytes(), type=list[Result]):
        beside = ratio = ""
        if result.baseline is not None:
            beside = f"{result.baseline:g} {result.unit}, {result.baseline_name}"
        if result.ratio is not None:
            ratio = f"{result.ratio:g} x"
        goal = result.goal if result.reached else f"{result.goal}: missed"
        lines.append(
            f"| {result.name} | {result.ours:g} {result.unit} | {beside} | {ratio} | {goal} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    table = numbers(LATEST)
    README.write_text(_NUMBERS.sub(lambda m: m[1] + table + m[2], README.read_text()))
