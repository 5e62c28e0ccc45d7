"""The namespace and the rights in it, on a real cluster."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from hodei.address import Address
from hodei_faults.cluster import until as until_so
from hodei_faults.cluster import until_allowed
from hodei_providers.contract import Health, ProviderError, WorkerPhase
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.infrastructure import Infrastructure
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.kubernetes.rights import make_cluster_roles, make_infrastructure_role
from hodei_providers.testing import INSTALLATION, destroyed, make_request, until

RBAC = "/apis/rbac.authorization.k8s.io/v1"


async def test_a_namespace_gets_all_it_needs_and_what_is_edited_is_repaired(api: Api, namespace: str) -> None:
    """Two servers at once, twice, and after somebody's hand."""
    config = KubernetesConfig(namespace=namespace)
    first, second = Infrastructure(api, config), Infrastructure(api, config)
    for each in (first, second):
        each.listening(Address("192.0.2.1", 6000))
    await asyncio.gather(first.ensure(namespace), second.ensure(namespace))
    assert first.problems == second.problems == {namespace: []}
    core = f"/api/v1/namespaces/{namespace}"
    quota = f"{core}/resourcequotas/hodei-jobs-workers-quota"
    labels = (await api.get(core))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    account = await api.get(f"{core}/serviceaccounts/hodei-jobs-worker")
    assert account["automountServiceAccountToken"] is False
    role = await api.get(f"{RBAC}/namespaces/{namespace}/roles/hodei-server")
    assert not any("exec" in resource for rule in role["rules"] for resource in rule["resources"])
    binding = await api.get(f"{RBAC}/namespaces/{namespace}/rolebindings/hodei-server")
    assert binding["subjects"][0]["name"]
    policy = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/hodei-jobs-workers-netpol"
    applied = (await api.get(policy))["spec"]
    assert applied["policyTypes"] == ["Ingress", "Egress"]

    await api.delete(policy)
    await api.delete(f"{core}/limitranges/hodei-jobs-workers-limits")
    await api.merge(quota, {"spec": {"hard": {"pods": "1"}}})
    await first.ensure(namespace, again=True)
    assert (await api.get(quota))["spec"]["hard"]["pods"] == "100"
    await api.get(f"{core}/limitranges/hodei-jobs-workers-limits")
    assert (await api.get(policy))["spec"] == applied


async def test_a_server_with_only_what_the_administrator_gave_runs_workers(
    api: Api, namespace: str, account: Callable[[str], Awaitable[str]], played: KubernetesConfig
) -> None:
    """It makes the namespace's parts and binds itself by `bind`; it reads no secret, and runs nothing in a pod."""
    identity = f"system:serviceaccount:{namespace}-home:limited"
    kubeconfig = await account("limited")
    for part in [*make_cluster_roles(played, identity), *make_infrastructure_role(played, identity)]:
        place = f"/namespaces/{namespace}" if "namespace" in part["metadata"] else ""
        await api.apply(f"{RBAC}{place}/{part['kind'].lower()}s/{part['metadata']['name']}", part)
    await until_allowed(api, identity, "create", "serviceaccounts", namespace=namespace)
    config = dataclasses.replace(played, kubeconfig=kubeconfig)
    async with KubernetesProvider(config=config) as provider:

        async def is_let_in() -> Health | None:
            # The binding that it has made itself reaches the API server's own cache after a moment.
            health = await provider.health()
            return health if health.healthy and not health.degraded else None

        assert not (await until_so(is_let_in)).message
        binding = await api.get(f"{RBAC}/namespaces/{namespace}/rolebindings/hodei-server")
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("ClusterRole", "hodei-server-jobs")
        handle = await provider.launch(make_request())
        await until(provider, handle, WorkerPhase.RUNNING)
        assert await provider.diagnose(handle)
        for path in ("secrets", f"secrets/{handle.data['pod']}"):
            with pytest.raises(Exception, match="cannot"):
                await provider._api.get(f"/api/v1/namespaces/{namespace}/{path}")
        await destroyed(provider, handle)
        assert await provider.list(INSTALLATION) == []


async def test_a_server_without_rights_says_which_are_missing(
    namespace: str, account: Callable[[str], Awaitable[str]], played: KubernetesConfig
) -> None:
    """The verb, the resource, and what an administrator can apply."""
    config = dataclasses.replace(played, kubeconfig=await account("nobody"))
    async with KubernetesProvider(config=config) as provider:
        health = await provider.health()
    assert not health.healthy
    assert 'cannot list resource "pods"' in health.message
    assert 'cannot patch resource "resourcequotas"' in health.message
    assert "hodei k8s manifests" in health.message
    assert namespace in health.message


async def test_the_standard_restricted_is_enforced_and_the_pod_is_let_in(api: Api, played: KubernetesConfig) -> None:
    """What the namespace refuses of others it takes from the provider."""
    async with KubernetesProvider(config=played) as provider:
        careless = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "careless"},
            "spec": {"containers": [{"name": "a", "image": "busybox:stable", "securityContext": {"privileged": True}}]},
        }

        async def refused() -> bool:
            # So do the namespace's labels.
            try:
                await api.create(f"/api/v1/namespaces/{played.namespace}/pods", careless, dryRun="All")
            except ProviderError as error:
                return "violates PodSecurity" in str(error)
            return False

        await until_so(refused)
    plain = dataclasses.replace(played, volumes=(), volume_mounts=())
    async with KubernetesProvider(config=plain) as provider:
        for image in ("", "debian:stable-slim"):
            handle = await provider.launch(make_request(image=image))
            await destroyed(provider, handle)
