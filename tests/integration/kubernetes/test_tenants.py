"""A namespace for each tenant, on a real cluster."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import PATIENCE, until, until_allowed
from hodei_providers.contract import Description, Handle, LaunchRequest, ProviderUnavailableError, WorkerPhase
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.infrastructure import Infrastructure
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.kubernetes.rights import WATCH_ROLE, make_cluster_roles, make_pull_secrets_role, make_role_binding
from hodei_providers.testing import INSTALLATION, destroyed, make_request
from hodei_server.app import Server
from hodei_server.settings import SettingsError

MakeSettings = Callable[..., Any]
Account = Callable[[str], Awaitable[str]]
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PARTS = (
    "serviceaccounts/hodei-jobs-worker",
    "resourcequotas/hodei-jobs-workers-quota",
    "limitranges/hodei-jobs-workers-limits",
)


@pytest.fixture
def config(played: KubernetesConfig, prefix: str) -> KubernetesConfig:
    """Return a configuration with a namespace for each tenant, and a pull secret."""
    settings = {"dynamic_namespaces": True, "namespace_prefix": prefix, "image_pull_secrets": ("registry",)}
    return dataclasses.replace(played, volumes=(), volume_mounts=(), **settings)  # type: ignore[arg-type]  # as they are


@pytest.fixture
async def limited(api: Any, namespace: str, account: Account, config: KubernetesConfig) -> str:
    """Return a kubeconfig of a server with no more rights than `hodei k8s manifests` gives it."""
    kubeconfig = await account("limited")
    identity = f"system:serviceaccount:{namespace}-home:limited"
    for part in [*make_cluster_roles(config, identity), *make_pull_secrets_role(config, identity)]:
        kind = {"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings"}.get(part["kind"])
        path = f"{RBAC}/{kind}" if kind else f"{RBAC}/namespaces/{namespace}/{part['kind'].lower()}s"
        await api.apply(f"{path}/{part['metadata']['name']}", part)
    await until_allowed(api, identity, "create", "namespaces")
    await until_allowed(api, identity, "get", "secrets", namespace=namespace, name="registry")
    return kubeconfig


async def make_pull_secret(api: Any, namespace: str, auths: str) -> None:
    """Make the pull secret of the configured namespace, or change it."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "registry", "namespace": namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": f'{{"auths": {{"{auths}": {{}}}}}}'},
    }
    await api.apply(f"/api/v1/namespaces/{namespace}/secrets/registry", secret, manager="administrator")


async def has_pod(api: Any, space: str, job: str) -> None:
    """Wait for a job's pod to be in a namespace."""
    while not (await api.get(f"/api/v1/namespaces/{space}/pods", labelSelector=f"hodei.io/job={job}"))["items"]:
        await asyncio.sleep(0.05)


async def test_each_tenants_jobs_run_in_a_namespace_of_its_own(
    make_settings: MakeSettings, api: Any, namespace: str, prefix: str
) -> None:
    """W42: made on first use with all that belongs in it; nothing is left of the pods there, nor of their secrets."""
    settings = make_settings(DYNAMIC_NAMESPACES="true", NAMESPACE_PREFIX=prefix)
    async with (
        Server(settings, ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        jobs = {tenant: await client.submit(["sleep", "2"], tenant=tenant) for tenant in ("acme", "umbrella")}
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(has_pod(api, f"{prefix}{tenant}", job) for tenant, job in jobs.items()))
        for tenant, job in jobs.items():
            space = f"/api/v1/namespaces/{prefix}{tenant}"
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            labels = (await api.get(space))["metadata"]["labels"]
            assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
            assert labels["hodei.io/tenant"] == tenant
            for part in PARTS:
                await api.get(f"{space}/{part}")
            await api.get(f"{RBAC}/namespaces/{prefix}{tenant}/rolebindings/hodei-server")
            policies = f"/apis/networking.k8s.io/v1/namespaces/{prefix}{tenant}/networkpolicies"
            await api.get(f"{policies}/hodei-jobs-workers-netpol")
            async with asyncio.timeout(PATIENCE):
                while (await api.get(f"{space}/pods"))["items"] or (await api.get(f"{space}/secrets"))["items"]:
                    await asyncio.sleep(0.1)
        assert (await api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"] == []


async def test_a_server_of_few_rights_serves_tenants_and_finds_their_workers_again(
    api: Any, namespace: str, config: KubernetesConfig, limited: str
) -> None:
    """W11, W42: a watch a namespace without the right to one for all; by the worker's id alone, and after a restart."""
    await make_pull_secret(api, namespace, "one")
    config = dataclasses.replace(config, kubeconfig=limited, resync=1.0, image_pull_grace=0.0)
    requests = {tenant: make_request(labels={"tenant": tenant}) for tenant in ("acme", "umbrella")}
    async with KubernetesProvider(config=config) as provider:
        for tenant, request in requests.items():

            async def launched(request: LaunchRequest = request) -> Handle | None:
                # The binding that it has made itself reaches the API server's own cache after a moment.
                with contextlib.suppress(ProviderUnavailableError):
                    return await provider.launch(request)
                return None

            handle = await until(launched)
            assert handle.data["namespace"] == f"{config.namespace_prefix}{tenant}"
        assert not await provider._spaces.everywhere()

        async def is_well() -> bool:
            health = await provider.health()
            return (health.healthy, health.message) == (True, "")

        await until(is_well)
        copy = f"/api/v1/namespaces/{config.namespace_prefix}acme/secrets/registry"
        before = (await api.get(copy))["data"]
        await make_pull_secret(api, namespace, "two")
        async with asyncio.timeout(PATIENCE):
            while (await api.get(copy))["data"] == before:
                await asyncio.sleep(0.1)
    async with KubernetesProvider(config=config) as provider:
        found = await provider.list(INSTALLATION)
        assert {each.worker_id for each in found} == {each.worker_id for each in requests.values()}
        acme, umbrella = (requests[tenant].worker_id for tenant in ("acme", "umbrella"))
        seen: set[str] = set()
        async with asyncio.timeout(PATIENCE):
            # There is no worker in their image: each namespace's watch tells of its own.
            async for description in provider.watch(INSTALLATION):
                seen.add(description.handle.worker_id)
                if seen == {acme, umbrella}:
                    break
        assert (await provider.describe(Handle(acme))).phase is not WorkerPhase.MISSING
        await destroyed(provider, Handle(acme))
        await destroyed(provider, Handle(umbrella))
        assert await provider.list(INSTALLATION) == []
        secrets = await api.get(f"/api/v1/namespaces/{config.namespace_prefix}umbrella/secrets")
        assert [each["metadata"]["name"] for each in secrets["items"]] == ["registry"]
    binding = make_role_binding("", f"system:serviceaccount:{namespace}-home:limited", "ClusterRole") | {
        "kind": "ClusterRoleBinding"
    }
    binding["metadata"] = {"name": f"{namespace}-watch"}
    binding["roleRef"]["name"] = WATCH_ROLE
    await api.apply(f"{RBAC}/clusterrolebindings/{namespace}-watch", binding)
    async with KubernetesProvider(config=config) as provider, asyncio.timeout(PATIENCE):
        while not await provider._spaces.everywhere():
            provider._spaces._everywhere = None
            await asyncio.sleep(0.1)
        assert await provider._spaces._paths() == ["/api/v1/pods"]
        # Other tests may have pods anywhere.
        there = {each.worker_id for each in await provider.list(INSTALLATION)}
        assert there.isdisjoint(each.worker_id for each in requests.values())


@pytest.mark.usefixtures("account")
async def test_a_copy_of_a_workers_pod_in_another_namespace_ends_no_job(
    api: Any, namespace: str, played: KubernetesConfig, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """W12: with its name and all its labels, seen by the one watch of the cluster, by the process that comes after."""
    config = dataclasses.replace(played, dynamic_namespaces=True, namespace_prefix=prefix)
    request = make_request(labels={"tenant": "acme"})
    async with KubernetesProvider(config=config) as provider:
        handle = await provider.launch(request)
    metadata = (await api.get(f"/api/v1/namespaces/{prefix}acme/pods/{handle.data['pod']}"))["metadata"]
    elsewhere = f"/api/v1/namespaces/{namespace}-home/pods"
    copy = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: metadata[key] for key in ("name", "labels", "annotations")},
        "spec": {"containers": [{"name": "worker", "image": "busybox:stable", "command": ["sleep", "600"]}]},
    }
    await api.create(elsewhere, copy)
    async with KubernetesProvider(config=config) as provider, asyncio.timeout(PATIENCE):
        found = [each for each in await provider.list(INSTALLATION) if each.worker_id == request.worker_id]
        assert found == [handle]
        told = asyncio.ensure_future(_news_of(provider, request.worker_id))
        while f"pod {namespace}-home/{metadata['name']} has the labels" not in caplog.text:
            await asyncio.sleep(0.05)
        await api.delete(f"{elsewhere}/{metadata['name']}", grace=0)
        await destroyed(provider, handle)
        assert (await told).handle == handle


async def _news_of(provider: KubernetesProvider, worker_id: str) -> Description:
    """Return the first that is told of a worker; other tests may have theirs anywhere."""
    async with contextlib.aclosing(provider.watch(INSTALLATION)) as watching:  # type: ignore[type-var]  # it is one
        while True:
            description = await anext(watching)
            if description.handle.worker_id == worker_id:
                return description


async def test_a_tenants_namespace_that_somebody_deletes_is_made_again_for_the_next_job(
    api: Any, played: KubernetesConfig, prefix: str
) -> None:
    """L08: without workers in it, it is not seen to any more."""
    config = dataclasses.replace(played, dynamic_namespaces=True, namespace_prefix=prefix, resync=0.5)
    async with KubernetesProvider(config=config) as provider, asyncio.timeout(PATIENCE):
        for _ in range(2):
            handle = await provider.launch(make_request(labels={"tenant": "acme"}))
            assert handle.data["namespace"] == f"{prefix}acme"
            assert provider._spaces.known[f"{prefix}acme"] == "acme"
            await destroyed(provider, handle)
            await api.delete(f"/api/v1/namespaces/{prefix}acme")
            while f"{prefix}acme" in provider._spaces.known:
                await asyncio.sleep(0.1)


async def test_tenants_namespaces_are_repaired_by_two_servers_at_once(api: Any, config: KubernetesConfig) -> None:
    """And what is somebody else's is left alone."""
    await make_pull_secret(api, config.namespace, "one")
    space = f"{config.namespace_prefix}acme"
    servers = [Infrastructure(api, config), Infrastructure(api, config)]
    for _ in range(2):
        await asyncio.gather(*(server.ensure(space, "acme", again=True) for server in servers))
        assert [server.problems for server in servers] == [{space: []}] * 2
        for part in (*PARTS, "secrets/registry"):
            await api.delete(f"/api/v1/namespaces/{space}/{part}")
    await servers[0].ensure(space, "acme", again=True)
    for part in (*PARTS, "secrets/registry"):
        await api.get(f"/api/v1/namespaces/{space}/{part}")
    foreign = f"{config.namespace_prefix}foreign"
    await api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": foreign}})
    with pytest.raises(ProviderUnavailableError, match="is not Hodei's"):
        await servers[0].ensure(foreign, "foreign")


async def test_a_server_that_may_not_make_a_tenants_namespace_says_so(
    config: KubernetesConfig, account: Account
) -> None:
    """The verb, the resource, and the command whose output an administrator can apply."""
    async with KubernetesProvider(config=dataclasses.replace(config, kubeconfig=await account("nobody"))) as provider:
        with pytest.raises(ProviderUnavailableError):
            await provider.launch(make_request(labels={"tenant": "acme"}))
        problems = "; ".join(provider._infrastructure.problems[f"{config.namespace_prefix}acme"])
        assert 'cannot patch resource "namespaces"' in problems
        assert "hodei k8s manifests --tenant acme" in problems
        assert not (await provider.health()).healthy
        await provider._spaces.refresh()
        assert 'cannot list resource "namespaces"' in provider._spaces.problem


async def test_no_worker_can_wait_before_its_tenant_is_known(
    make_settings: MakeSettings, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool is refused at the start, by its variable."""
    monkeypatch.setenv("HODEI_PROVIDER_KUBERNETES_POOL_MIN_READY", "1")
    settings = make_settings(DYNAMIC_NAMESPACES="true", NAMESPACE_PREFIX=prefix)
    with pytest.raises(SettingsError, match="HODEI_PROVIDER_KUBERNETES_POOL_MIN_READY"):
        async with Server(settings, ephemeral=True):
            pass
