"""The Dockerfile, docker-compose.yml and what belongs to them."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deltaq.tasks.settings import Settings
from tests.support.deploying import (
    COMPOSE_FILE,
    DEPLOY,
    DOCKERFILE,
    KNOWN_VARIABLES,
    choices,
    compose,
    image_environment,
)
from tests.support.pages import ROOT

STAGES = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE.read_text(), re.MULTILINE)


def run(*command: str | Path) -> str:
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text.removesuffix("s"))


def test_the_dockerfile_pleases_its_linter() -> None:
    run(Path(sys.executable).parent / "hadolint", DOCKERFILE)


def test_the_compose_file_fits_its_schema() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    files = [COMPOSE_FILE, COMPOSE_FILE.with_suffix(".s3.yml")]
    run(sys.executable, "-m", "check_jsonschema", *schema, *files)


def has_compose() -> bool:
    version = ("docker", "compose", "version")
    return bool(shutil.which("docker")) and not subprocess.call(version, stderr=subprocess.DEVNULL)


@pytest.mark.skipif(not has_compose(), reason="no Docker Compose here")
def test_compose_takes_its_file() -> None:
    for profiles in ([], ["--profile", "client", "--profile", "s3"]):
        run("docker", "compose", *profiles, "config", "--quiet")
    both = ("-f", COMPOSE_FILE, "-f", COMPOSE_FILE.with_suffix(".s3.yml"), "--profile", "s3")
    run("docker", "compose", *both, "config", "--quiet")


def test_the_lake_in_s3_is_set_by_settings_that_there_are() -> None:
    override = yaml.safe_load(COMPOSE_FILE.with_suffix(".s3.yml").read_text())
    for service in ("worker", "client"):
        given = override["services"][service]["environment"]
        assert set(given) <= KNOWN_VARIABLES
        assert given["DELTAQ_LAKE"].startswith("s3://lake/")


def test_the_example_of_env_names_what_may_be_chosen_with_its_default() -> None:
    example = (ROOT / ".env.example").read_text()
    chosen = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))

    assert set(chosen) == choices()
    assert compose(chosen=chosen) == compose()


def test_secrets_are_made_once_and_are_those_of_the_compose_file(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "grafana_password").write_text("mine")

    for _ in range(2):
        run("sh", DEPLOY / "secrets.sh", folder)
        made = {file.name: file.read_text() for file in folder.iterdir()}

    assert set(made) == set(compose()["secrets"])
    assert made.pop("grafana_password") == "mine"
    assert made.pop("flower_auth").startswith("ops:")
    assert len(set(made.values())) == len(made)
    assert all(re.fullmatch(r"[\w=-]{32}", value) for value in made.values())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o444}


def test_services_are_given_the_secrets_that_they_read_and_nothing_unknown() -> None:
    for name, service in compose()["services"].items():
        environment = service.get("environment", {})
        named = re.findall(r"/run/secrets/(\w+)", str({**service, "secrets": None}))
        if "start.sh" not in str(service.get("command")):
            assert set(service.get("secrets", [])) == set(named), name
        ours = {variable for variable in environment if variable.startswith("DELTAQ_")}
        assert ours <= KNOWN_VARIABLES, name
        assert not [v for v in environment.values() if "password" in v and "/run/secrets/" not in v]


def test_every_service_is_hardened_and_only_this_machine_reaches_it() -> None:
    for name, service in compose()["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert ":latest" not in service["image"]


def test_a_worker_that_is_told_to_stop_is_not_killed_before_it_stops_by_itself() -> None:
    grace = seconds(compose()["services"]["worker"]["stop_grace_period"])
    assert grace > Settings.model_fields["stop_timeout"].default + 10


def test_what_is_mounted_is_there() -> None:
    for service in compose()["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (ROOT / source).exists() or source in compose()["volumes"], source


def test_images_of_services_are_built_from_stages_that_there_are() -> None:
    assert STAGES[-1] == "spark", "what is built without --target"
    for service in compose()["services"].values():
        if "build" in service:
            assert service["build"]["target"] in STAGES
            assert service["image"] == f"deltaq:{service['build']['target']}"


def test_images_set_nothing_unknown() -> None:
    for stages in (("base", "native"), ("base", "java", "spark")):
        ours = {name for name in image_environment(*stages) if name.startswith("DELTAQ_")}
        assert ours
        assert ours <= KNOWN_VARIABLES


def test_the_build_is_given_what_it_copies() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
        for source in line.split()
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert any(source == path or source.startswith(f"{path}/") for path in allowed), source


def test_requirements_are_those_of_the_extras_without_deltaq_itself(tmp_path: Path) -> None:
    for file in (DEPLOY / "image" / "requirements.py", ROOT / "pyproject.toml"):
        shutil.copy(file, tmp_path)

    native = run(sys.executable, tmp_path / "requirements.py", "native", "flower").splitlines()
    worker = run(sys.executable, tmp_path / "requirements.py", "worker").splitlines()

    assert [line for line in native if line.startswith(("deltalake", "flower"))]
    assert not [line for line in native if "spark" in line]
    assert {"pyspark==4.2.0"} <= set(worker)
    assert not [line for line in native + worker if line.startswith("deltaq")]
