"""``deltaq`` without its start: a process that has imported it forks one for each command.

Run with ``python -m``. Reads a command a line, in JSON, and answers with its exit code.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import deltaq.worker.cli  # noqa: F401  # its verbs are loaded by entry point
from deltaq.client.cli import main


def _serve() -> None:
    """Fork until there are no more commands; in a child, be the command."""
    # Commands come and answers go by copies: the standard streams are those of the children.
    with os.fdopen(os.dup(0)) as commands, os.fdopen(os.dup(1), "w") as answers:
        for line in commands:
            child = os.fork()
            if not child:
                _become(**json.loads(line))
                main()
                return
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _become(arguments: list[str], folder: str, env: dict[str, str], streams: list[str]) -> None:
    """Be a process that somebody started in a folder, with files as its standard streams."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    modes: list[Any] = [os.O_RDONLY, os.O_WRONLY, os.O_WRONLY]
    for number, (file, mode) in enumerate(zip(streams, modes, strict=True)):
        os.dup2(os.open(file, mode), number)
    sys.argv = ["deltaq", *arguments]


if __name__ == "__main__":
    _serve()
