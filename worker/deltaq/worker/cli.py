"""The verbs of operators, collected by ``deltaq`` through an entry point."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.settings import Settings, load_settings
from deltaq.worker.cli_recover import recover

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

#: Exit code for a mistake in the command or the settings.
USAGE = 2

Lake = Annotated[
    Path | None, typer.Option(help="Folder of the tables. [env: DELTAQ_LAKE]", show_default=False)
]
LogLevel = Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")]


@app.command()
def worker(
    lake: Lake = None,
    redis_url: Annotated[
        str | None,
        typer.Option(help="Redis of the queue; with a password, use DELTAQ_REDIS_URL instead."),
    ] = None,
    queues: Annotated[
        str | None, typer.Option(help="What to serve: commits,bulk,reads,maintenance.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(help="Tasks at once.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="auto, native or spark: what performs requests.")
    ] = None,
    spark: Annotated[str | None, typer.Option(help="on, or off to run without Java.")] = None,
    spark_master: Annotated[str | None, typer.Option(help="Spark master.")] = None,
    name: Annotated[str | None, typer.Option(help="Node name in Celery and Flower.")] = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Run a worker until it gets SIGTERM or Ctrl-C.

    Example: deltaq worker --lake /data/lake --queues commits,reads
    """
    _log(log_level)
    settings = _settings(
        lake=lake,
        redis_url=redis_url,
        queues=queues,
        concurrency=concurrency,
        engine=engine,
        spark=spark,
        spark_master=spark_master,
    )
    from deltaq.worker.app import Worker  # Celery and Spark are slow to import
    from deltaq.worker.java import find_java

    try:
        if settings.spark == "on":
            find_java()
        code = Worker(settings, name=name).run()
    except DeltaqError as exc:
        _exit(exc)
    raise typer.Exit(code)


@app.command()
def dev(
    lake: Annotated[Path, typer.Option(help="Folder of the tables; made if need be.")],
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
) -> None:
    """Run a private Redis and a worker on a folder, for development. Ctrl-C ends all of it.

    Example: deltaq dev --lake ./lake
    """
    from deltaq.worker.system import embedded

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with embedded(lake, workers=workers, output=sys.stderr.buffer) as system:
            for variable, value in system.env.items():
                typer.echo(f"export {variable}={value}")
            typer.echo("# with these, in another terminal: deltaq tables", err=True)
            sys.stdout.flush()
            while not ended.wait(1.0):
                if not system.worker_pids:
                    typer.echo("all workers have ended; see above", err=True)
                    raise typer.Exit(1)
            typer.echo("stopping: running commits are finished first", err=True)
    except DeltaqError as exc:
        _exit(exc)


@app.command()
def demo(
    lake: Annotated[
        Path | None,
        typer.Option(help="Folder for the tables, new or empty; it is kept. Default: temporary."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1000, help="Rows to generate.")] = 1_000_000,
    writers: Annotated[int, typer.Option(min=1, help="Processes that append.")] = 10,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
) -> None:
    """Run a whole system on real market data, check every row and show how fast it was.

    Example: deltaq demo --rows 100000
    """
    try:
        from deltaq.worker.demo.run import run  # brings pandas and the data with it

        code = run(lake=lake, rows=rows, writers=writers, workers=workers)
    except ModuleNotFoundError as exc:
        typer.echo(f"deltaq: {exc}; install it with: pip install 'deltaq[worker,demo]'", err=True)
        raise typer.Exit(USAGE) from exc
    except DeltaqError as exc:
        _exit(exc)
    raise typer.Exit(code)


app.command()(recover)


def _settings(**arguments: Any) -> Settings:
    try:
        return load_settings(**arguments)
    except DeltaqError as exc:
        _exit(exc)


def _exit(exc: DeltaqError) -> NoReturn:
    typer.echo(f"deltaq: {exc}", err=True)
    raise typer.Exit(USAGE)


def _log(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    # Every wake-up is a Celery task; each would be two lines.
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    logging.getLogger("py4j").setLevel(logging.WARNING)
