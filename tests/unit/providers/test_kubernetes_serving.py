"""The server in a cluster, and what pulls images ahead, without a cluster."""

from __future__ import annotations

import os
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from hodei_cli.commands import cli
from hodei_providers.contract import Resources
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.manifests import make_network_policy
from hodei_providers.kubernetes.network import written_place
from hodei_providers.kubernetes.pod import Owner, make_pod
from hodei_providers.kubernetes.serving import make_hpa, make_prepull, make_server
from hodei_providers.testing import make_request
from hodei_server.settings import load_settings


def deployment(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the Deployment."""
    (found,) = [part for part in parts if part["kind"] == "Deployment"]
    return found


def variables(parts: list[dict[str, Any]]) -> dict[str, str]:
    """Return the environment of the server's container."""
    container = deployment(parts)["spec"]["template"]["spec"]["containers"][0]
    return {each["name"]: each["value"] for each in container["env"]}


def printed(*arguments: str, **environment: str) -> list[dict[str, Any]]:
    """Return what the command prints with these variables alone."""
    unset: dict[str, str | None] = dict.fromkeys([name for name in os.environ if name.startswith("HODEI_")])
    done = CliRunner().invoke(cli, ["k8s", "manifests", *arguments], env=unset | environment)
    assert done.exit_code == 0, done.output
    return list(yaml.safe_load_all(done.output))


def test_there_is_one_server_and_no_second_one_beside_it() -> None:
    """Its data is one folder: the old pod goes before the new one comes, and the autoscaler keeps to one."""
    parts = make_server(KubernetesConfig(), {})
    spec = deployment(parts)["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    (hpa,) = make_hpa(KubernetesConfig())
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (1, 1)
    assert hpa["spec"]["scaleTargetRef"]["name"] == deployment(parts)["metadata"]["name"]


def test_workers_find_the_server_where_its_service_is() -> None:
    """Service, pod and the workers' network policy agree on labels, namespace and port."""
    config = KubernetesConfig(server_namespace="place")
    parts = make_server(config, {})
    assert {part["metadata"].get("namespace", part["metadata"]["name"]) for part in parts} == {"place"}
    (service,) = [part for part in parts if part["kind"] == "Service"]
    template = deployment(parts)["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert [port["port"] for port in service["spec"]["ports"]] == [50051, 50052]
    named = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    assert [named[port["targetPort"]] for port in service["spec"]["ports"]] == [50051, 50052]
    rule = make_network_policy("space", config, written_place(config))["spec"]["egress"][1]
    assert rule["to"][0]["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert rule["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "place"}
    assert rule["ports"][0]["port"] == 50052


def test_nobody_in_the_cluster_reaches_the_clients_port_without_a_certificate() -> None:
    """It stays on the pod's loopback, until a Secret brings what clients are told by, and theirs."""
    assert "HODEI_LISTEN" not in variables(make_server(KubernetesConfig(), {}))
    assert "HODEI_ALLOW_PLAINTEXT" not in variables(make_server(KubernetesConfig(), {}))
    parts = make_server(KubernetesConfig(), {}, tls_secret="certificate")
    found = variables(parts)
    assert found["HODEI_LISTEN"] == "0.0.0.0:50051"
    spec = deployment(parts)["spec"]["template"]["spec"]
    (mount,) = [each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "tls"]
    for name in ("HODEI_TLS_CERT", "HODEI_TLS_KEY", "HODEI_TLS_CLIENT_CA"):
        assert found[name].startswith(mount["mountPath"])
    (volume,) = [each for each in spec["volumes"] if each["name"] == "tls"]
    assert volume["secret"]["secretName"] == "certificate"


def test_the_server_has_the_settings_that_the_command_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for where the cluster is; and a server takes them all."""
    given = {
        "HODEI_K8S_NAMESPACE": "space",
        "HODEI_K8S_SERVER_NAMESPACE": "place",
        "HODEI_K8S_CONTEXT": "admin",
        "HODEI_WORKER_IMAGE": "registry.example/worker:1",
    }
    parts = printed("--add", "server", "--server-image", "registry.example/server:1", **given)
    found = variables(parts)
    assert found["HODEI_K8S_NAMESPACE"] == "space"
    assert found["HODEI_K8S_WORKER_IMAGE"] == "registry.example/worker:1"
    assert "HODEI_K8S_CONTEXT" not in found
    assert deployment(parts)["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/server:1"
    subjects = [subject for part in parts for subject in part.get("subjects", [])]
    assert {subject["namespace"] for subject in subjects} == {"place"}
    for name in [name for name in os.environ if name.startswith("HODEI_")]:
        monkeypatch.delenv(name)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    settings = load_settings({})
    assert settings.provider_kinds == {"kubernetes": "kubernetes"}


def test_images_are_pulled_where_jobs_run() -> None:
    """On the same nodes, with the same credentials; others' images have nothing asked of them but to be there."""
    toleration = {"key": "pool", "operator": "Exists"}
    config = KubernetesConfig(
        worker_image="worker:1",
        node_selector={"pool": "jobs"},
        tolerations=(toleration,),
        image_pull_secrets=("registry",),
    )
    spec = make_prepull(config, ["user:1", "user:2"])[0]["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"pool": "jobs"}
    assert spec["tolerations"][0] == toleration
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert [each["image"] for each in spec["initContainers"]] == ["worker:1", "user:1", "user:2"]
    assert spec["containers"][0]["image"] == "worker:1"
    (part,) = [each for each in printed("--add", "prepull", "--prepull-image", "user:1") if each["kind"] == "DaemonSet"]
    assert part["spec"]["template"]["spec"]["initContainers"][1]["image"] == "user:1"


def test_images_are_pulled_to_nodes_with_gpus_too() -> None:
    """Such a node usually keeps others away, and takes workers that ask for what it has: by their very tolerations."""
    config = KubernetesConfig(
        tolerations=({"key": "pool", "operator": "Exists"},),
        gpu_resources={"default": "nvidia.com/gpu", "h100": "nvidia.com/gpu", "mi300": "amd.com/gpu"},
    )
    spec = make_prepull(config)[0]["spec"]["template"]["spec"]
    assert len(spec["tolerations"]) == 3
    for kind in ("", "mi300"):
        request = make_request(resources=Resources(gpu_count=1, gpu_type=kind))
        pod = make_pod(request, "space", config, Owner("kubernetes"))
        of_nodes = [each for each in pod["spec"]["tolerations"] if "tolerationSeconds" not in each]
        assert [each for each in of_nodes if each not in spec["tolerations"]] == []


@pytest.mark.parametrize("kind", ["server", "prepull"])
def test_what_is_added_keeps_the_standard_restricted(kind: str) -> None:
    """A root that can't be written, no rights to become more, no token where none is needed."""
    config = KubernetesConfig()
    part = deployment(make_server(config, {})) if kind == "server" else make_prepull(config, ["user:1"])[0]
    spec = part["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*spec["containers"], *spec.get("initContainers", [])):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert (kind == "server") is ("automountServiceAccountToken" not in spec)
    # As the server's settings do: a Service named hodei-server would bring HODEI_SERVER_PORT.
    assert spec["enableServiceLinks"] is False
