"""The Kubernetes provider's settings: read, judged and named."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from hodei_providers.config import ConfigError, enabled_kinds, given_options, known_configs, options_of, read_config
from hodei_providers.kubernetes import ImagePullPolicy, KubernetesConfig, OtpDelivery, PodSecurityStandard
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.registry import ProviderSetupError


def read(**variables: str) -> KubernetesConfig:
    """Read variables as a server would."""
    environment = {f"HODEI_K8S_{name.upper()}": text for name, text in variables.items()}
    given = given_options(KubernetesConfig, environment=environment, own={}, shared={})
    return read_config(KubernetesConfig, given)


def test_it_is_enabled_by_its_full_name_and_configured_by_its_short_one() -> None:
    """HODEI_KUBERNETES_ENABLED, HODEI_K8S_*."""
    assert known_configs()["kubernetes"] is KubernetesConfig
    assert enabled_kinds({"HODEI_KUBERNETES_ENABLED": "1"}) == ["kubernetes"]
    assert enabled_kinds({"HODEI_K8S_ENABLED": "1"}) == []


def test_the_defaults_are_those_that_are_written_down() -> None:
    """What the documentation shows, read, gives the same as nothing at all."""
    written = {info.name: info.default for info in options_of(KubernetesConfig) if info.default}
    assert read(**written) == read() == KubernetesConfig()


def test_its_docstring_has_every_option() -> None:
    """For those who build it in code."""
    for info in options_of(KubernetesConfig):
        assert f":param {info.name}: {info.description}" in str(KubernetesConfig.__doc__)


def test_each_option_is_read_as_what_it_is() -> None:
    """Maps, lists, JSON, enumerations, numbers."""
    config = read(
        pod_security_standard="Baseline",
        image_pull_policy="always",
        otp_delivery="env",
        image_pull_secrets="one,two",
        node_selector="disk=ssd,zone=a",
        tolerations='[{"key": "gpu", "operator": "Exists"}]',
        affinity='{"nodeAffinity": {}}',
        pod_template_patch='{"spec": {"hostUsers": false}}',
        volumes='[{"name": "data", "emptyDir": {}}]',
        volume_mounts='[{"name": "data", "mountPath": "/data"}]',
        gpu_resources="default=nvidia.com/gpu,radeon=amd.com/gpu",
        image_pull_grace="90s",
        read_only_root="false",
        max_pods="7",
        dynamic_namespaces="1",
        namespace_prefix="team-",
        quota="pods=5",
    )
    assert config == KubernetesConfig(
        pod_security_standard=PodSecurityStandard.BASELINE,
        image_pull_policy=ImagePullPolicy.ALWAYS,
        otp_delivery=OtpDelivery.ENV,
        image_pull_secrets=("one", "two"),
        node_selector={"disk": "ssd", "zone": "a"},
        tolerations=({"key": "gpu", "operator": "Exists"},),
        affinity={"nodeAffinity": {}},
        pod_template_patch={"spec": {"hostUsers": False}},
        volumes=({"name": "data", "emptyDir": {}},),
        volume_mounts=({"name": "data", "mountPath": "/data"},),
        gpu_resources={"default": "nvidia.com/gpu", "radeon": "amd.com/gpu"},
        image_pull_grace=90.0,
        read_only_root=False,
        max_pods=7,
        dynamic_namespaces=True,
        namespace_prefix="team-",
        quota={"pods": "5"},
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("namespace", "Not_A_Label"),
        ("namespace_prefix", "Team_"),
        ("namespace_prefix", "longer-than-tenants-take-"),
        ("dynamic_namespaces", "some"),
        ("service_account", "no spaces"),
        ("worker_image", "two words"),
        ("pod_security_standard", "strict"),
        ("image_pull_policy", "sometimes"),
        ("otp_delivery", "mail"),
        ("image_user", "root"),
        ("default_cpu_request", "many"),
        ("default_cpu_request", "3"),
        ("default_memory_limit", "1 elephant"),
        ("default_memory_request", "5Gi"),
        ("default_storage_request", "0"),
        ("spool_storage", "1Gi"),
        ("agent_memory", "x"),
        ("image_pull_secrets", "Bad_Name"),
        ("node_selector", "just-a-key"),
        ("node_selector", "key=not a value"),
        ("tolerations", "{}"),
        ("affinity", "[1]"),
        ("affinity", "nonsense"),
        ("pod_labels", "hodei.io/mine=yes"),
        ("pod_labels", "app.kubernetes.io/name=mine"),
        ("pod_labels", "app=mine"),
        ("job_key_prefixes", "jobs.example.com/,any *"),
        ("pod_annotations", "hodei.io/mine=yes"),
        ("volumes", '[{"emptyDir": {}}]'),
        ("volumes", '[{"name": "hodei-tmp"}]'),
        ("volumes", '[{"name": "host", "hostPath": {"path": "/"}}]'),
        ("volume_mounts", '[{"name": "unknown", "mountPath": "/x"}]'),
        ("gpu_resources", "default=gpu"),
        ("quota", "pods=many"),
        ("server_address", "https://a:b"),
        ("listen", "a name"),
        ("server_ca", "/nowhere/ca.pem"),
        ("server_cidr", "10.0.0.1"),
        ("server_namespace", ""),
        ("priority_class", "No Class"),
        ("runtime_class", "No Class"),
        ("max_namespaces", "0"),
        ("network_egress", "[1]"),
        ("dns_peers", "10.96.0.10/32"),
        ("dns_peers", "[{}]"),
        ("dns_peers", '[{"cidr": "10.96.0.10/32"}]'),
        ("lost_node_timeout", "soon"),
        ("ttl_seconds_after_finished", "-1"),
        ("max_pods", "0"),
        ("termination_grace", "0"),
        ("toleration_seconds", "-1"),
        ("api_timeout", "0"),
        ("api_rate", "0"),
        ("resync", "soon"),
        ("cost_per_hour", "-1"),
        ("ensure", "maybe"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, text: str) -> None:
    """By its variable, with what was expected."""
    if not text:
        with pytest.raises(ConfigError, match="HODEI_K8S_SERVER_NAMESPACE: '' can't be used: expected"):
            KubernetesConfig(server_namespace="")
        return
    with pytest.raises(ConfigError, match=f"^HODEI_K8S_{name.upper()}: .*can't be used: .+"):
        read(**{name: text})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("pod_security_standard", "restricted", "PodSecurityStandard"),
        ("image_pull_policy", "Always", "ImagePullPolicy"),
        ("otp_delivery", "env", "OtpDelivery"),
        ("image_user", "own", "ImageUser"),
        ("namespace", None, "str"),
        ("default_cpu_request", 2, "str"),
        ("read_only_root", "false", "bool"),
        ("ensure", 1, "bool"),
        ("max_pods", "5", "int"),
        ("max_pods", True, "int"),
        ("termination_grace", 1.5, "int"),
        ("api_timeout", "15s", "float"),
        ("regions", "eu", "tuple[str, ...]"),
        ("image_pull_secrets", ["registry"], "tuple[str, ...]"),
        ("tolerations", {"key": "a"}, "tuple[Mapping[str, Any], ...]"),
        ("volumes", ("data",), "tuple[Mapping[str, Any], ...]"),
        ("affinity", "{}", "Mapping[str, Any]"),
        ("quota", None, "Mapping[str, str]"),
        ("pod_labels", {"replicas": 1}, "Mapping[str, str]"),
    ],
)
def test_what_code_gives_is_of_the_type_that_is_declared(name: str, value: Any, expected: str) -> None:
    """No enumeration is taken for its text: a pod that only looks restricted would be the worst of both."""
    with pytest.raises(ConfigError) as caught:
        KubernetesConfig(**{name: value})
    assert str(caught.value) == f"HODEI_K8S_{name.upper()}: {value!r} can't be used: expected {expected}"


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_namespaces", 0), ("ttl_seconds_after_finished", -1), ("lost_node_timeout", 0.0), ("api_rate", float("nan"))],
)
def test_numbers_that_only_code_can_give_are_named_too(name: str, value: float) -> None:
    """What reads variables lets none of these through."""
    with pytest.raises(ConfigError, match=f"^HODEI_K8S_{name.upper()}: .*can't be used: expected"):
        KubernetesConfig(**{name: value})  # type: ignore[arg-type]  # each by its own type
    assert KubernetesConfig(api_timeout=15, cost_per_hour=1).api_timeout == 15


def test_all_that_is_wrong_is_told_at_once() -> None:
    """A line for each."""
    with pytest.raises(ConfigError) as caught:
        KubernetesConfig(namespace="A B", max_pods=0, default_cpu_limit="x")
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "HODEI_K8S_NAMESPACE",
        "HODEI_K8S_DEFAULT_CPU_LIMIT",
        "HODEI_K8S_MAX_PODS",
    ]


def test_settings_are_read_without_the_sdk() -> None:
    """Only a provider that is used needs its packages."""
    program = "import sys, hodei_providers.kubernetes.manifests; sys.exit('kubernetes.aio' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, env=dict(os.environ))


def test_a_lost_node_is_not_given_up_before_its_workers_have_ended() -> None:
    """Both settings are named."""
    provider = KubernetesProvider(config=KubernetesConfig(lost_node_timeout=600.0))
    provider.check_orphan_after(600.0)
    with pytest.raises(ProviderSetupError, match=r"HODEI_K8S_LOST_NODE_TIMEOUT.*HODEI_ORPHAN_AFTER"):
        provider.check_orphan_after(601.0)
