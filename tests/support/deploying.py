"""What the files in ``deploy/`` and beside the Dockerfile say, for tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from deltaq.tasks.settings import SECRETS, Settings, variable_of
from deltaq.tasks.variable_files import file_variable
from tests.support.pages import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"

#: Variables that a container may have.
KNOWN_VARIABLES = {variable_of(name) for name in Settings.model_fields} | {
    file_variable(variable_of(name)) for name in SECRETS
}
#: Values that docker-compose.yml takes from .env, with what holds without.
_CHOICE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def compose(*, chosen: dict[str, str] | None = None) -> dict[str, Any]:
    """Read docker-compose.yml as Compose does, with choices from .env."""
    text = _CHOICE.sub(lambda m: (chosen or {}).get(m[1], m[2]), COMPOSE_FILE.read_text())
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def choices() -> set[str]:
    """Name the variables that docker-compose.yml takes from .env."""
    return {match[1] for match in _CHOICE.finditer(COMPOSE_FILE.read_text())}


def image_environment(*stages: str) -> dict[str, str]:
    """Tell what stages of the Dockerfile set for whoever runs the image."""
    found: dict[str, str] = {}
    for stage in re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)[1:]:
        if re.match(rf"\S+ AS ({'|'.join(stages)})$", stage, re.MULTILINE):
            for setting in re.findall(r"^ENV ((?:.*\\\n)*.*)$", stage, re.MULTILINE):
                found |= dict(re.findall(r"(\w+)=(\S+)", setting))
    return found


def documents(folder: Path) -> list[dict[str, Any]]:
    """Read the manifests of a folder, the directions for kustomize left out."""
    return [
        document
        for file in sorted(folder.glob("*.yaml"))
        if file.name != "kustomization.yaml"
        for document in yaml.safe_load_all(file.read_text())
    ]
