"""The verbs of operators, collected by ``deltaq`` through an entry point."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Literal

import typer

from deltaq.tasks.errors import ConfigurationError, DeltaqError
from deltaq.tasks.logs import LogFormat, LogLevel, secrets_of, set_up_logging
from deltaq.tasks.settings import SECRETS, load_settings, variable_of
from deltaq.tasks.variable_files import file_variable
from deltaq.tasks.verbs import QUEUE, SYSTEM, Code, Json, Lake, RedisUrl, Verbs
from deltaq.worker.cli_doctor import doctor
from deltaq.worker.cli_flower import flower
from deltaq.worker.cli_jars import jars
from deltaq.worker.cli_recover import recover

app = typer.Typer(
    cls=Verbs, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

logger = logging.getLogger(__name__)


Spark = Annotated[
    Literal["on", "off"] | None,
    typer.Option(help="Off: no Spark and no Java needed.", show_default=False),
]


@app.command(rich_help_panel=SYSTEM)
def worker(
    lake: Lake = None,
    redis_url: RedisUrl = None,
    queues: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="What to serve: commits,bulk,reads,maintenance; by default all.",
            show_default=False,
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Tasks at once; 4 by default.", show_default=False)
    ] = None,
    engine: Annotated[
        Literal["auto", "native", "spark"] | None,
        typer.Option(help="What performs requests.", show_default=False),
    ] = None,
    spark: Spark = None,
    spark_master: Annotated[
        str | None, typer.Option(metavar="URL", help="Spark master.", show_default=False)
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0, help="Port of /metrics and /readyz; none by default.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Node name in Celery and Flower.", show_default=False),
    ] = None,
    log_level: Annotated[
        LogLevel | None, typer.Option(help="Least of what is logged.", show_default=False)
    ] = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(
            help="How; by default for people in a terminal, else JSON.", show_default=False
        ),
    ] = None,
) -> None:
    """Run a worker until it gets SIGTERM or Ctrl-C.

    Example: deltaq worker --lake /data/lake --queues commits,reads
    """
    settings = load_settings(
        lake=lake,
        redis_url=redis_url,
        queues=queues,
        concurrency=concurrency,
        engine=engine,
        spark=spark,
        spark_master=spark_master,
        metrics_port=metrics_port,
        log_level=log_level,
        log_format=log_format,
    )
    set_up_logging(settings.log_level, settings.log_format, secrets=secrets_of(settings))
    from deltaq.worker.app import Worker  # Celery and Spark are slow to import
    from deltaq.worker.java import find_java

    if settings.spark == "on":
        find_java()
    try:
        code = Worker(settings, name=name).run()
    except DeltaqError:
        raise
    except Exception as exc:
        logger.exception("unforeseen")  # for the log, whoever started it
        raise typer.Exit(Code.FAILED) from exc
    raise typer.Exit(code)


@app.command(rich_help_panel=SYSTEM)
def dev(
    lake: Annotated[
        str,
        typer.Option(
            metavar="FOLDER", help="Folder of the tables, or s3://bucket/folder; made if need be."
        ),
    ],
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    spark: Spark = None,
    as_json: Json = False,
) -> None:
    """Run a private Redis and a worker on a folder, for development.

    The lines it prints, typed into another terminal, let programs there use it. Ctrl-C ends all
    of it.

    Example: deltaq dev --lake ./lake
    """
    from deltaq.worker.system import embedded

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    chosen = {} if spark is None else {"spark": spark}
    with embedded(lake, workers=workers, output=sys.stderr.buffer, **chosen) as system:
        told = _without_secrets(system.env)
        if as_json:
            typer.echo(json.dumps(told))
        else:
            for variable, value in told.items():
                typer.echo(f"export {variable}={shlex.quote(value)}")
            typer.echo("# with these, in another terminal: deltaq tables", err=True)
        sys.stdout.flush()
        while not ended.wait(1.0):
            if not system.worker_pids:
                typer.echo("all workers have ended; see above", err=True)
                raise typer.Exit(Code.FAILED)
        typer.echo("stopping: running commits are finished first", err=True)


def _without_secrets(variables: dict[str, str]) -> dict[str, str]:
    """Leave out secrets, which the other terminal has if it should; name their files.

    The private Redis has no password.
    """
    secret = {variable_of(name) for name in SECRETS if name != "redis_url"}
    files = {file_variable(name) for name in secret} & os.environ.keys()
    told = {name: value for name, value in variables.items() if name not in secret}
    return told | {name: str(Path(os.environ[name]).absolute()) for name in sorted(files)}


@app.command(rich_help_panel=SYSTEM)
def demo(
    lake: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the tables, new or empty; it is kept. By default a temporary one.",
            show_default=False,
        ),
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
        raise ConfigurationError(f"{exc}: pip install 'deltaq[worker,demo]'") from exc
    raise typer.Exit(code)


app.command(rich_help_panel=QUEUE)(recover)
app.command(rich_help_panel=QUEUE)(doctor)
app.command(rich_help_panel=SYSTEM)(flower)
app.command(rich_help_panel=SYSTEM)(jars)
