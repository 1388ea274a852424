"""``python -m benchmarks.simulation``: ten thousand tables and five hundred workers, simulated."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from benchmarks.simulation.play import Cast, Play, as_table

OUT = Path(__file__).parents[1] / "results" / "simulation.json"


def main(
    tables: Annotated[int, typer.Option(min=10)] = 10_000,
    workers: Annotated[int, typer.Option(min=2)] = 500,
    seconds: Annotated[float, typer.Option(min=2, help="Of the steady load.")] = 60.0,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second of it.")] = 150.0,
    concurrency: Annotated[int, typer.Option(min=1, help="Commits of a worker at once.")] = 4,
    commit_seconds: Annotated[float, typer.Option(help="What a commit takes.")] = 8.0,
    processes: Annotated[int, typer.Option(min=1, help="That share the workers.")] = 2,
    out: Annotated[Path, typer.Option(help="JSON file of what was found.")] = OUT,
) -> None:
    """Simulate many workers: Redis and its scripts are real, engines are a delay."""
    logging.basicConfig(level=logging.ERROR)
    cast = Cast(
        tables=tables,
        workers=workers,
        seconds=seconds,
        rate=rate,
        concurrency=concurrency,
        commit_seconds=commit_seconds,
        processes=processes,
    )
    with (
        tempfile.TemporaryDirectory(prefix="dq-simulation-") as folder,
        Console(stderr=True).status("") as status,
        Play(cast, Path(folder), say=status.update) as play,
    ):
        found = play.run()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    Console().print(as_table(found))
    if not found.is_clean:
        Console(stderr=True).print(f"[red]not each request once and in order: see {out}")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
