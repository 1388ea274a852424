"""Where each setting comes from, and how it is shown without its secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
from pydantic import SecretStr

from deltaq.tasks.masking import MASK, masked_url, masked_values
from deltaq.tasks.s3_path import S3Path
from deltaq.tasks.settings import SECRETS, Settings, config_file, load_settings, variable_of
from deltaq.tasks.variable_files import file_variable, variable_value


class Sourced(msgspec.Struct, frozen=True, kw_only=True):
    """A setting in effect.

    Attributes:
        name: Its name.
        value: Its value, for programs; secrets are masked.
        source: ``default``, ``argument``, a variable, or a file and its line.
    """

    name: str
    value: Any
    source: str

    @property
    def text(self) -> str:
        """The value, for people."""
        match self.value:
            case None:
                return ""
            case bool():
                return str(self.value).lower()
            case list():
                return ",".join(self.value)
            case dict():
                return ", ".join(f"{name}={value}" for name, value in self.value.items())
        return str(self.value)


def explain_settings(**arguments: Any) -> list[Sourced]:
    """List the settings in effect, each with where it comes from.

    Raises:
        ConfigurationError: As :func:`load_settings`.
    """
    settings = load_settings(**arguments)
    given = {name for name, value in arguments.items() if value is not None}
    lines = _lines(config_file())
    return [
        Sourced(
            name=name,
            value=_shown(name, getattr(settings, name)),
            source=_source(name, settings, given, lines),
        )
        for name in Settings.model_fields
    ]


def _source(name: str, settings: Settings, given: set[str], lines: dict[str, int]) -> str:
    if name not in settings.model_fields_set:
        return "default"
    if name in given:
        return "argument"
    places = []
    variables = [variable_of(name)]
    if name in SECRETS:
        variables.append(file_variable(variables[0]))
    places += [variable for variable in variables if variable_value(variable) is not None]
    # A table of settings, such as spark_conf, is put together from both.
    if name in lines and (not places or isinstance(getattr(settings, name), dict)):
        places.append(f"{config_file()}:{lines[name]}")
    return ", ".join(places)


def _lines(file: Path) -> dict[str, int]:
    """Find the line of each setting in a TOML file that parses."""
    if not file.is_file():
        return {}
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        if head := re.match(r"\s*\[+\s*[\"']?(\w+)", line):
            table = head[1]
            found.setdefault(table, number)
        elif (key := re.match(r"\s*[\"']?(\w+)[\"']?\s*[.=]", line)) and not table:
            found.setdefault(key[1], number)
    return found


def _shown(name: str, value: object) -> Any:
    match value:
        case SecretStr():
            return masked_url(value.get_secret_value()) if name.endswith("_url") else MASK
        case Path() | S3Path():
            return str(value)
        case tuple():
            return [str(item) for item in value]
        case dict():
            return masked_values(value)
    return value
