"""Each option of the Kubernetes provider has an effect, and a test sees it: none is read for nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hodei.address import Address
from hodei_providers.config import options_of
from hodei_providers.contract import Resources
from hodei_providers.kubernetes import ImagePullPolicy, ImageUser, KubernetesConfig, OtpDelivery, PodSecurityStandard
from hodei_providers.kubernetes.manifests import make_files, manifests_command
from hodei_providers.kubernetes.network import find_place
from hodei_providers.kubernetes.pod import Owner, make_pod
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.kubernetes.route import find_route
from hodei_providers.kubernetes.serving import make_prepull, make_server
from hodei_providers.testing import make_request

TESTS = Path(__file__).parents[2]
PLAIN = make_request(worker_id="w1", otp="otp")
ASKING = make_request(
    worker_id="w1",
    otp="otp",
    image="debian:stable-slim",
    resources=Resources(cpu_millis=100, memory_bytes=64 << 20, disk_bytes=1 << 30, gpu_count=1),
)
POD, ASKED, FILES, SERVER, PREPULL, OFFERS, ROUTE = "pod", "asked", "files", "server", "prepull", "offers", "route"
PODS = {POD, ASKED}

#: What makes another thing of an option: another value, and what is made of the configuration that differs then.
CHANGES: Mapping[str, tuple[Any, set[str]]] = {
    "namespace": ("other", {*PODS, FILES, PREPULL}),
    "pod_security_standard": (PodSecurityStandard.BASELINE, {*PODS, FILES, OFFERS}),
    "image_user": (ImageUser.FIXED, {ASKED, OFFERS}),
    "service_account": ("other", {*PODS, FILES, PREPULL}),
    "worker_image": ("other:1", {*PODS, PREPULL}),
    "image_pull_policy": (ImagePullPolicy.ALWAYS, {*PODS, SERVER, PREPULL}),
    "image_pull_secrets": (("registry",), {*PODS, SERVER, PREPULL}),
    "server_address": ("10.0.0.2:7", {FILES, ROUTE}),
    "listen": ("10.0.0.3", {ROUTE}),
    "default_cpu_request": ("1", {POD, FILES}),
    "default_cpu_limit": ("3", {POD, FILES}),
    "default_memory_request": ("2Gi", {POD, FILES}),
    "default_memory_limit": ("5Gi", {POD, FILES}),
    "default_storage_request": ("1Gi", {POD}),
    "default_storage_limit": ("3Gi", {POD}),
    "agent_memory": ("128Mi", {ASKED}),
    "spool_storage": ("2Gi", {*PODS}),
    "gpu_resources": ({"default": "amd.com/gpu", "h100": "nvidia.com/gpu"}, {ASKED, PREPULL, OFFERS}),
    "read_only_root": (False, {*PODS}),
    "otp_delivery": (OtpDelivery.ENV, {*PODS}),
    "termination_grace": (60, {*PODS}),
    "node_selector": ({"kubernetes.io/arch": "arm64"}, {*PODS, PREPULL, OFFERS}),
    "tolerations": (({"key": "a", "operator": "Exists"},), {*PODS, PREPULL}),
    "toleration_seconds": (7, {*PODS}),
    "affinity": ({"podAffinity": {}}, {*PODS}),
    "priority_class": ("high", {*PODS}),
    "runtime_class": ("gvisor", {*PODS}),
    "pod_labels": ({"team": "a"}, {*PODS}),
    "pod_annotations": ({"note": "a"}, {*PODS}),
    "volumes": (({"name": "data", "emptyDir": {}},), {*PODS}),
    "pod_template_patch": ({"spec": {"hostUsers": False}}, {*PODS}),
    "quota": ({"pods": "5"}, {FILES}),
    "server_cidr": ("10.0.0.0/8", {FILES}),
    "server_namespace": ("other", {SERVER}),
    "dns_peers": (({"ipBlock": {"cidr": "10.96.0.10/32"}},), {FILES}),
    "network_egress": (({"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]},), {FILES}),
    "max_pods": (7, {OFFERS}),
    "labels": ({"disk": "ssd"}, {OFFERS}),
    "regions": (("eu",), {OFFERS}),
    "cost_per_hour": (0.5, {OFFERS}),
}

#: The test that sees what an option does which makes nothing by itself.
ELSEWHERE: Mapping[str, str] = {
    "kubeconfig": "integration/kubernetes/test_infrastructure.py::"
    "test_a_server_with_only_what_the_administrator_gave_runs_workers",
    "context": "integration/kubernetes/test_two_clusters.py::"
    "test_jobs_go_to_the_cluster_that_they_name_and_one_that_is_closed_keeps_what_runs_there",
    "dynamic_namespaces": "integration/kubernetes/test_tenants.py::"
    "test_each_tenants_jobs_run_in_a_namespace_of_its_own",
    "namespace_prefix": "integration/kubernetes/test_tenants.py::test_each_tenants_jobs_run_in_a_namespace_of_its_own",
    "max_namespaces": "unit/providers/test_kubernetes_watching.py::"
    "test_namespaces_of_tenants_have_a_bound_and_those_that_have_one_keep_it",
    "ensure": "integration/kubernetes/test_admission.py::"
    "test_what_the_pod_security_standard_refuses_is_waited_for_until_it_is_settled",
    "server_identity": "integration/kubernetes/test_repairs.py::"
    "test_the_role_is_bound_to_the_identity_that_a_setting_names",
    "image_pull_grace": "integration/kubernetes/test_failures.py::"
    "test_an_image_that_heals_in_time_costs_the_job_nothing",
    "server_ca": "integration/kubernetes/test_pods.py::test_a_burnt_token_leaves_no_secret_and_the_pod_runs_on",
    "ttl_seconds_after_finished": "integration/kubernetes/test_last_words.py::"
    "test_an_ended_pod_is_removed_after_its_time_and_its_last_words_are_kept",
    "lost_node_timeout": "unit/providers/test_kubernetes_removal.py::"
    "test_a_worker_that_nobody_has_seen_end_counts_as_gone_in_the_end",
    "job_key_prefixes": "unit/providers/test_kubernetes_metadata.py::test_a_setting_says_how_keys_of_a_job_begin",
    "volume_mounts": "unit/providers/test_kubernetes_pod.py::test_the_settings_reach_the_pod",
    "fixed_size": "integration/kubernetes/test_capacity.py::"
    "test_on_a_cluster_of_fixed_size_a_job_waits_in_the_queue_until_there_is_room",
    "api_timeout": "unit/providers/test_kubernetes_api.py::test_a_call_that_is_not_answered_in_its_time_is_an_outage",
    "api_rate": "unit/providers/test_kubernetes_api.py::test_calls_beyond_a_second_s_burst_wait_for_their_turn",
    "resync": "unit/providers/test_kubernetes_provider.py::"
    "test_upkeep_goes_on_after_a_failure_that_nobody_has_thought_of",
}


def made(config: KubernetesConfig) -> dict[str, object]:
    """Return all that is made of a configuration alone."""
    provider = KubernetesProvider(config=config)
    route = find_route(config, "https://192.0.2.1")
    owner = Owner("kubernetes", b"an authority")
    place = find_place(config, Address(route.host, route.port))
    return {
        POD: make_pod(PLAIN, config.namespace, config, owner),
        ASKED: make_pod(ASKING, config.namespace, config, owner),
        FILES: make_files(config, "someone", place),
        SERVER: make_server(config, {}),
        PREPULL: make_prepull(config),
        OFFERS: provider.capabilities(),
        ROUTE: route,
    }


def test_each_option_is_looked_at() -> None:
    """A new one, too: by what is made of it, or in a test that names it."""
    assert not CHANGES.keys() & ELSEWHERE.keys()
    assert {*CHANGES, *ELSEWHERE} == {info.name for info in options_of(KubernetesConfig)}


@pytest.mark.parametrize("option", CHANGES)
def test_each_option_changes_what_it_is_for_and_nothing_else(option: str) -> None:
    """W38: one that did nothing would be a lie."""
    config = KubernetesConfig(server_address="10.0.0.1:50052")
    value, expected = CHANGES[option]
    before, after = made(config), made(dataclasses.replace(config, **{option: value}))
    assert {name for name in before if before[name] != after[name]} == expected


@pytest.mark.parametrize("option", CHANGES)
def test_the_command_for_an_administrator_has_each_option_that_decides_what_it_prints(option: str) -> None:
    """And no other: an administrator has a shell of their own."""
    value, expected = CHANGES[option]
    command = manifests_command(dataclasses.replace(KubernetesConfig(), **{option: value}), "someone", None)
    # Those are read for tenants' namespaces alone.
    decides = FILES in expected or option == "image_pull_secrets"
    assert (f"HODEI_K8S_{option.upper()}=" in command) is decides


@pytest.mark.parametrize("option", ELSEWHERE)
def test_a_test_names_each_option_that_makes_nothing_by_itself(option: str) -> None:
    """As a variable or as an argument."""
    file, _, name = ELSEWHERE[option].partition("::")
    text = (TESTS / file).read_text()
    assert f"def {name}(" in text
    assert re.search(rf"\b({option}|{option.upper()})(=|\":)", text)
