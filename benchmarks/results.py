"""The result of a benchmark: two numbers of one run, their ratio, and the goal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec
from rich.table import Table

Bound = Literal["at least", "at most"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table, one object in latest.json."""

    name: str
    ours: float
    #: None where the goal is a number and not a comparison; so are name and ratio then.
    baseline: float | None = None
    baseline_name: str | None = None
    unit: str
    #: With a goal of "at least", how many times better than the baseline we are; with one of
    #: "at most", how many times its cost we cost.
    ratio: float | None = None
    goal: str
    reached: bool
    notes: str


def compared(
    name: str,
    ours: float,
    baseline: float,
    *,
    baseline_name: str,
    unit: str,
    goal: tuple[Bound, float],
    notes: str,
    correct: bool = True,
) -> Result:
    """Make the result of a comparison.

    Args:
        name: The benchmark's.
        ours: Our median: a rate when ``unit`` ends in ``/s``, else a cost.
        baseline: The same of what we compare with.
        baseline_name: What that is.
        unit: Of both.
        goal: What the ratio must be.
        notes: What was done, and what to know of it.
        correct: The tables hold what they should; else no goal is reached.
    """
    bound, times = goal
    better_is_more = unit.endswith("/s")
    cost_ratio = baseline / ours if better_is_more else ours / baseline
    ratio = 1 / cost_ratio if bound == "at least" else cost_ratio
    return Result(
        name=name,
        ours=_rounded(ours),
        baseline=_rounded(baseline),
        baseline_name=baseline_name,
        unit=unit,
        ratio=_rounded(ratio),
        goal=f"{bound} {times:g} x",
        reached=correct and _holds(ratio, bound, times),
        notes=notes,
    )


def limited(
    name: str,
    ours: float,
    *,
    unit: str,
    goal: tuple[Bound, float],
    notes: str,
    correct: bool = True,
) -> Result:
    """Make the result of a measurement whose goal is a number; arguments as :func:`compared`."""
    bound, limit = goal
    return Result(
        name=name,
        ours=_rounded(ours),
        unit=unit,
        goal=f"{bound} {limit:g} {unit}",
        reached=correct and _holds(ours, bound, limit),
        notes=notes,
    )


def as_table(results: Iterable[Result]) -> Table:
    """Lay results out for the terminal."""
    table = Table(title="deltaq beside the same work without it; medians of one run")
    table.add_column("name", no_wrap=True)
    for heading in ("ours", "baseline", "ratio"):
        table.add_column(heading, justify="right")
    for heading in ("goal", "reached", "beside"):
        table.add_column(heading)
    for result in results:
        table.add_row(
            result.name,
            f"{result.ours:g} {result.unit}",
            "" if result.baseline is None else f"{result.baseline:g} {result.unit}",
            "" if result.ratio is None else f"{result.ratio:g} x",
            result.goal,
            "[green]yes[/]" if result.reached else "[red]no[/]",
            result.baseline_name or "",
        )
    return table


def save(results: list[Result], path: Path) -> None:
    """Write results as JSON; those of other benchmarks in the file stay."""
    names = {result.name for result in results}
    kept: list[Result] = []
    if path.exists():
        before = msgspec.json.decode(path.read_bytes(), type=list[Result])
        kept = [result for result in before if result.name not in names]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode([*kept, *results]), indent=2)
    path.write_bytes(text + b"\n")


def _holds(value: float, bound: Bound, limit: float) -> bool:
    return value >= limit if bound == "at least" else value <= limit


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
