"""``python -m benchmarks [NAME ...]``: run benchmarks, print a table, write latest.json."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import (
    backfill,
    cluster,
    event_loop,
    maintenance,
    many,
    memory,
    observed,
    one,
    s3,
    shapes,
)
from benchmarks.results import Result, as_table, save
from benchmarks.run import Run

_BENCHMARKS: dict[str, Callable[[Run], list[Result]]] = {
    function.__name__: function
    for function in (
        many.append_async_10,
        many.append_sync_10,
        many.append_sync_50,
        event_loop.async_5000,
        one.append_idle,
        one.submit,
        many.merge_sync_10,
        one.merge_idle,
        shapes.small_files,
        shapes.read,
        shapes.tables_1000,
        memory.memory,
        backfill.backfill,
        observed.observed,
        maintenance.maintained,
        maintenance.live_beside,
        maintenance.verbs,
        s3.s3_append_idle,
        s3.s3_append_async_10,
        s3.s3_workers,
        cluster.cluster,
    )
}
_LATEST = Path(__file__).parent / "results" / "latest.json"

_words = Console(stderr=True)


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(_BENCHMARKS)}; all by default.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="A little of each; figures mean nothing.")
    ] = False,
    rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rows that backfill loads, or cluster merges; by default 20 and 10 million.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="JSON file of the results.")] = _LATEST,
    folder: Annotated[Path | None, typer.Option(help="Where to make the tables.")] = None,
) -> None:
    """Measure deltaq beside the same work without it, in turns, and tell which goals it reaches."""
    unknown = sorted(set(names or ()) - set(_BENCHMARKS))
    if unknown:
        raise typer.BadParameter(f"no benchmark {', '.join(unknown)}; see --help")
    logging.basicConfig(level=logging.ERROR)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=folder) as place, _words.status("") as status:
        run = Run(folder=Path(place), rounds=rounds, quick=quick, say=status.update, rows=rows)
        for name in names or _BENCHMARKS:
            status.update(name)
            found = _BENCHMARKS[name](run)
            for result in found:
                _words.print(f"{name}: {result.ours:g} {result.unit}, {result.notes}")
            results += found
    save(results, out)
    Console().print(as_table(results))


typer.run(main)
