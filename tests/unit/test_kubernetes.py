"""The manifests in ``deploy/k8s``."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pyspark
import pytest
import yaml

from deltaq.tasks.settings import load_settings
from deltaq.worker.spark_conf import spark_conf
from tests.support.deploying import DEPLOY, KNOWN_VARIABLES, documents
from tests.support.pages import ROOT

K8S = DEPLOY / "k8s"
#: Of Kubernetes, whose schema is looked at.
VERSION = "1.31"


def build(folder: Path, *components: str) -> list[dict[str, Any]]:
    """Have kustomize build the example, with further components."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here")
    folder = folder / "deploy"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("secrets"))
    example = folder / "k8s" / "example"
    subprocess.run(["sh", folder / "secrets.sh", example / "secrets"], check=True)
    directions = example / "kustomization.yaml"
    added = "".join(f"  - ../{component}\n" for component in components)
    directions.write_text(directions.read_text().replace("  - ../keda\n", f"  - ../keda\n{added}"))
    ended = subprocess.run(
        ["kubectl", "kustomize", example], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return list(yaml.safe_load_all(ended.stdout))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What kustomize makes of the example."""
    return build(tmp_path_factory.mktemp("k8s"))


def only(kind: str, name: str, among: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = (d for d in among if d["kind"] == kind and d["metadata"]["name"].startswith(name))
    return found


@pytest.fixture
def settings() -> dict[str, str]:
    found: dict[str, str] = only("ConfigMap", "deltaq-settings", documents(K8S / "base"))["data"]
    return found


@pytest.fixture
def worker() -> dict[str, Any]:
    """The pod of a worker."""
    deployment = only("Deployment", "deltaq-worker", documents(K8S / "base"))
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("folder", ["base", "redis", "spark", "example"])
def test_manifests_fit_the_schema_of_kubernetes(folder: str) -> None:
    found = documents(K8S / folder)
    assert found
    for document in found:
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_the_example_builds_and_fits_the_schema(built: list[dict[str, Any]]) -> None:
    for document in built:
        if document["kind"] != "ScaledObject":  # KEDA's
            kubernetes_validate.validate(document, VERSION, strict=True)
    kinds = {document["kind"] for document in built}
    assert {"Deployment", "StatefulSet", "ScaledObject", "NetworkPolicy", "Secret"} <= kinds
    assert {d["metadata"].get("namespace") for d in built} == {"deltaq", None}


def test_what_the_example_refers_to_is_in_it(built: list[dict[str, Any]]) -> None:
    there = {(d["kind"], d["metadata"]["name"]) for d in built}
    for document in built:
        text = str(document)
        wanted = {
            *(("Secret", name) for name in re.findall(r"'secretName': '([^']+)'", text)),
            *(
                ("ConfigMap", name)
                for name in re.findall(r"'configMap(?:Ref)?': {'name': '([^']+)'", text)
            ),
            *(
                ("PersistentVolumeClaim", name)
                for name in re.findall(r"'claimName': '([^']+)'", text)
            ),
        }
        assert wanted <= there


def test_keda_alone_says_how_many_workers_there_are(built: list[dict[str, Any]]) -> None:
    scaled = only("ScaledObject", "deltaq-worker", built)["spec"]
    assert "replicas" not in only("Deployment", scaled["scaleTargetRef"]["name"], built)["spec"]
    (trigger,) = scaled["triggers"]
    concurrency = only("ConfigMap", "deltaq-settings", built)["data"]["DELTAQ_CONCURRENCY"]
    assert trigger["metadata"]["threshold"] == concurrency
    (metric,) = re.findall(r"deltaq_\w+", trigger["metadata"]["query"])
    assert metric in (ROOT / "worker/deltaq/worker/gauges.py").read_text()


def test_settings_are_those_that_there_are(
    settings: dict[str, str], worker: dict[str, Any]
) -> None:
    assert set(settings) <= KNOWN_VARIABLES
    # Kubernetes would add variables named after our own services, which are no settings.
    assert worker["enableServiceLinks"] is False


def test_a_worker_has_time_to_stop(settings: dict[str, str], worker: dict[str, Any]) -> None:
    assert worker["terminationGracePeriodSeconds"] > float(settings["DELTAQ_STOP_TIMEOUT"]) + 10


def test_probes_ask_for_pages_that_workers_serve(worker: dict[str, Any]) -> None:
    (container,) = worker["containers"]
    pages = (ROOT / "worker/deltaq/worker/monitor.py").read_text()
    ports = {port["name"] for port in container["ports"]}
    probes = {
        kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")
    }

    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert all(f'"{probe["path"]}"' in pages for probe in probes.values())
    assert {probe["port"] for probe in probes.values()} <= ports


def test_pods_are_as_restricted_as_the_namespace_asks() -> None:
    for document in [*documents(K8S / "base"), *documents(K8S / "redis")]:
        if document["kind"] not in ("Deployment", "StatefulSet"):
            continue
        pod = document["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            claimed = document["spec"].get("volumeClaimTemplates", [])
            assert mounted == {
                *(volume["name"] for volume in pod["volumes"]),
                *(claim["metadata"]["name"] for claim in claimed),
            }


def test_files_of_secrets_are_where_settings_look(
    settings: dict[str, str], worker: dict[str, Any]
) -> None:
    (volume,) = (v["secret"] for v in worker["volumes"] if "secret" in v)
    (mount,) = (m for m in worker["containers"][0]["volumeMounts"] if m["name"] == "redis")
    (item,) = volume["items"]
    assert settings["DELTAQ_REDIS_PASSWORD_FILE"] == f"{mount['mountPath']}/{item['path']}"


def test_workers_with_executors_in_pods_tell_spark_where_all_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = build(tmp_path, "spark")
    for document in documents:
        if document["kind"] != "ScaledObject":
            kubernetes_validate.validate(document, VERSION, strict=True)
    for name, value in only("ConfigMap", "deltaq-settings", documents)["data"].items():
        if not name.endswith("_FILE"):
            monkeypatch.setenv(name, value)
    pod = only("Deployment", "deltaq-worker", documents)["spec"]["template"]["spec"]
    lake = mounted("lake", pod)
    conf = spark_conf(load_settings(lake=lake), [], tmp_path, pod="deltaq-worker-1")

    volume = "spark.kubernetes.executor.volumes.persistentVolumeClaim.lake."
    assert conf[f"{volume}options.claimName"] in str(pod["volumes"])
    assert conf[f"{volume}mount.path"] == lake
    assert conf["spark.kubernetes.container.image"] == f"apache/spark:{pyspark.__version__}"
    assert (
        conf["spark.kubernetes.namespace"]
        == only("Deployment", "deltaq-worker", documents)["metadata"]["namespace"]
    )
    template = Path(conf["spark.kubernetes.executor.podTemplateFile"])
    assert str(template.parent) == mounted("executor", pod)
    told = only("ConfigMap", "deltaq-executor", documents)["data"]
    assert yaml.safe_load(told[template.name])["spec"]["securityContext"]["runAsNonRoot"]
    policy = only("NetworkPolicy", "deltaq-spark-driver", documents)["spec"]
    (ports,) = policy["ingress"][0]["ports"]
    fixed = {int(conf["spark.driver.port"]), int(conf["spark.driver.blockManager.port"])}
    assert fixed == {ports["port"], ports["endPort"]}
    assert pod["serviceAccountName"] == only("ServiceAccount", "", documents)["metadata"]["name"]
    assert pod["automountServiceAccountToken"] is True


def mounted(volume: str, pod: dict[str, Any]) -> str:
    """Tell where the container of a pod has a volume."""
    (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if m["name"] == volume)
    return str(mount["mountPath"])
