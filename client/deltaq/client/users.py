"""Who submits what a client does."""

from __future__ import annotations

import getpass
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.tasks.settings import Settings

#: Characters.
_LONGEST = 100


def user_of(settings: Settings) -> str:
    """Name who submits: as the setting says, else account and machine."""
    if settings.user is not None:
        return settings.user
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"[:_LONGEST]
