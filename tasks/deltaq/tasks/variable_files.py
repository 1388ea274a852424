"""Secrets from files that variables name: ``DELTAQ_REDIS_PASSWORD_FILE=/run/secrets/redis``.

Docker, Kubernetes and systemd hand out secrets as files; a variable is seen by every child process.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from deltaq.tasks.errors import ConfigurationError

#: Secrets are short; whoever names a device by mistake shall hear of it.
_MOST_CHARACTERS = 64 * 1024
_SUFFIX = "_FILE"


def file_variable(variable: str) -> str:
    """Name the variable that names the file of what another variable would hold."""
    return variable + _SUFFIX


def variable_value(variable: str) -> str | None:
    """Look up a variable as settings do: whatever its case, and empty counts as not set."""
    return next((text for v, text in os.environ.items() if v.upper() == variable and text), None)


class VariableFiles(EnvSettingsSource):
    """The settings whose values are in files that variables name.

    Args:
        settings_cls: The settings.
        names: Those that may be given so.
    """

    def __init__(self, settings_cls: type[BaseSettings], names: Collection[str]) -> None:
        super().__init__(settings_cls)
        self._names = names

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Read the file of a setting, if a variable names one."""
        _, key, is_complex = super().get_field_value(field, field_name)
        if field_name not in self._names:
            return None, key, is_complex
        variable = f"{self.env_prefix}{field_name}".upper()
        path = variable_value(file_variable(variable))
        if path is None:
            return None, key, is_complex
        if variable_value(variable) is not None:
            raise ConfigurationError(
                f"{variable} and {file_variable(variable)} are both set: use one",
                details={"settings": [field_name]},
            )
        try:
            return _read(Path(path)), key, is_complex
        except (OSError, ValueError) as exc:
            raise ConfigurationError(
                f"{field_name} ({file_variable(variable)}): {path} cannot be read: "
                f"{exc.strerror if isinstance(exc, OSError) else exc}",
                details={"settings": [field_name]},
            ) from exc


def _read(path: Path) -> str:
    with path.open() as file:
        text = file.read(_MOST_CHARACTERS + 1)
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"more than {_MOST_CHARACTERS} characters are no setting")
    return text.removesuffix("\n").removesuffix("\r")  # editors end the last line
