"""What is said about settings that are wrong: which one, where it was set, and what it must be.

Pydantic speaks of strings and patterns to those who wrote a model; the words here are for those
who wrote ``deltaq.toml``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import pydantic

from deltaq.tasks.errors import ConfigurationError
from deltaq.tasks.suggest import did_you_mean

_MEMORY = "it must be a number of megabytes or gigabytes, as '512m' or '2g'"
#: Of settings whose form is a pattern or a length, what it is.
_FORMS = {
    "policy_hours": "it must be two times of day in UTC, as '22:00-06:00'",
    "queues": "name one queue at least",
    "s3_endpoint": "it must be the URL of a server, as 'http://minio:9000'",
    "s3_region": "it must be the name of a region, as 'eu-central-1'",
    "signing_key": "it must have 32 characters or more",
    "signing_key_old": "it must have 32 characters or more",
    "spark_executor_memory": _MEMORY,
    "spark_master": "it must be local[n], spark://host:7077, k8s://https://host:6443 or yarn",
    "spark_memory": _MEMORY,
    "user": "it must be 1 to 100 characters in one line",
}
_FORM_TYPES = ("string_pattern_mismatch", "too_short")
#: Of values that are no number or switch, what they must be.
_KINDS = {
    "int_parsing": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "float_parsing": "it must be a number",
    "bool_parsing": "it must be true or false",
}
#: How pydantic-settings names the setting whose text it could not take apart.
_FIELD = re.compile(r'for field "(\w+)"')


def wrong_values(
    exc: pydantic.ValidationError, place: Callable[[str], str], known: Collection[str]
) -> ConfigurationError:
    """Make the error that tells all wrong settings, each once.

    Args:
        exc: What pydantic found.
        place: Tells where a setting was set.
        known: The names of all settings.
    """
    first: dict[str, Any] = {}
    for error in exc.errors():
        first.setdefault(str(error["loc"][0]), error)
    problems = [_told(name, error, place(name), known) for name, error in first.items()]
    return ConfigurationError("; ".join(problems), details={"settings": list(first)})


def unreadable(exc: ValueError, place: Callable[[str], str]) -> ConfigurationError:
    """Make the error about a value that could not be taken apart, or a file that is no TOML."""
    if isinstance(exc.__cause__, ConfigurationError):  # its own words
        return exc.__cause__
    field = _FIELD.search(str(exc))
    if field is None:
        return ConfigurationError(f"settings cannot be read: {exc}")
    name = field[1]
    return ConfigurationError(
        f"{name} ({place(name)}): it must be JSON: {exc.__cause__}", details={"settings": [name]}
    )


def _told(name: str, error: Any, place: str, known: Collection[str]) -> str:
    if error["type"] == "missing":
        ways = f"as an argument, as DELTAQ_{name.upper()} or in deltaq.toml"
        return f"{name} is not set: give it {ways}"
    if error["type"] == "extra_forbidden":
        return f"unknown setting {name} ({place}){did_you_mean(name, known)}"
    words = _FORMS.get(name) if error["type"] in _FORM_TYPES else _KINDS.get(error["type"])
    return f"{name} ({place}): {words or _readable(error)}"


def _readable(error: Any) -> str:
    """Take what speaks of values and inputs from what pydantic says."""
    said = error["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
    if error["type"] != "literal_error":
        return str(said)
    choices = re.findall(r"'(\w+)'", error["ctx"]["expected"])
    return f"{said}, not {error['input']!r}{did_you_mean(str(error['input']), choices)}"
