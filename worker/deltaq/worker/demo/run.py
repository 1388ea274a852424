"""The demo as a command: its lake, its end, its exit code."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from deltaq.tasks.errors import ConfigurationError, DeltaqError
from deltaq.worker.demo.checks import CheckFailed
from deltaq.worker.demo.story import Options, run_demo
from deltaq.worker.demo.writers import WriterDied

_NEXT = """
[bold]What next[/bold]
  examples/quickstart.py          a dozen lines to begin a program with
  deltaq dev --lake ./lake        Redis and a worker on a folder of yours
  deltaq demo --lake ./demo-lake  the same again; the tables stay"""


def run(*, lake: Path | None, rows: int, writers: int, workers: int) -> int:
    """Run the demo in a terminal and return the exit code.

    Args:
        lake: A folder that is new or empty and kept; None for a temporary one, which is kept
            only when something went wrong.
        rows: Bars to generate.
        writers: Processes that append.
        workers: Worker processes that commit.

    Raises:
        ConfigurationError: The folder has something in it, or a setting is wrong.
    """
    if lake is not None and lake.exists() and any(lake.iterdir()):
        raise ConfigurationError(f"{lake} is not empty: the demo wants a folder of its own")
    signal.signal(signal.SIGTERM, _end)  # so that everything is taken down, as by Ctrl-C
    folder = lake or Path(tempfile.mkdtemp(prefix="deltaq-demo-lake-"))
    console = Console()
    keep = lake is not None
    try:
        run_demo(Options(lake=folder, rows=rows, writers=writers, workers=workers), console)
    except (CheckFailed, WriterDied, DeltaqError) as exc:
        keep = True
        console.print(f"[bold red]The demo failed:[/bold red] {exc}", highlight=False)
        console.print(f"Tables and {folder / '.deltaq' / 'workers.log'} are kept.")
        return 1
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    console.print("[bold green]Every row is there once, every request once and in order.[/]")
    console.print(f"The tables are in {lake}." if lake else _NEXT)
    return 0


def _end(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)
