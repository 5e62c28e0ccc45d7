"""Servers with no more rights than an administrator gives them, by what `hodei k8s manifests` prints."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Client, ClientSettings
from hodei_faults.cluster import causes, nothing_left, output, path_of, pod_of, running, until, until_allowed
from hodei_faults.kubectl import Kubectl, printed
from hodei_providers.contract import Health, WorkerPhase
from hodei_providers.kubernetes import KubernetesConfig, infrastructure
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.errors import ForbiddenError
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.kubernetes.rights import make_role_binding
from hodei_providers.testing import destroyed, make_request
from hodei_providers.testing import until as until_phase
from hodei_server.app import Server

Account = Callable[[str], Awaitable[str]]
RBAC = "/apis/rbac.authorization.k8s.io/v1"


async def test_what_a_server_without_rights_asks_for_heals_it_once_it_is_applied(
    kubectl: Kubectl, account: Account, played: KubernetesConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its health has the command, with whom the server is; nobody has to start it again."""
    monkeypatch.setattr(infrastructure, "PROBLEM_SECONDS", 1.0)
    config = dataclasses.replace(played, kubeconfig=await account("nobody"))
    async with KubernetesProvider(config=config) as provider:
        before = await provider.health()
        assert not before.healthy
        command = re.search("`([^`]*)hodei k8s manifests ([^`]*)`", before.message)
        assert command is not None, before
        # In a shell that has nothing of this server's.
        variables = dict(each.split("=", 1) for each in shlex.split(command[1]))
        await kubectl.apply(await printed(*shlex.split(command[2]), **variables))

        async def is_well() -> Health | None:
            health = await provider.health()
            return health if health.healthy else None

        health = await until(is_well)
        handle = await provider.launch(make_request())
        await until_phase(provider, handle, WorkerPhase.RUNNING)
        await destroyed(provider, handle)

        async def has_no_problem() -> bool:
            return not (await provider.health()).degraded

        await until(has_no_problem)
        assert health.healthy


async def test_with_the_role_of_its_namespace_alone_a_server_runs_jobs(
    make_settings: Callable[..., Any], api: Api, kubectl: Kubectl, namespace: str, account: Account
) -> None:
    """W08, W11: by HODEI_K8S_ENSURE=false; it makes nothing else, looks at nothing beyond it, and misses nothing."""
    kubeconfig, identity = await account("bound"), f"system:serviceaccount:{namespace}-home:bound"
    parts = await printed("--identity", identity, HODEI_K8S_NAMESPACE=namespace, HODEI_K8S_ENSURE="false")
    await kubectl.apply([part for part in parts if not part["kind"].startswith("ClusterRole")])
    await until_allowed(api, identity, "create", "pods", namespace=namespace)
    settings = make_settings(KUBECONFIG=kubeconfig, ENSURE="false")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:

        async def is_well() -> str:
            # Nothing is told before the first look at it; what is missing, and an API that is slow, degrade it.
            found = await client.provider("kubernetes")
            told: str = found.health_message
            return told if found.healthy and not told.startswith("degraded: ") else ""

        await until(is_well)
        # One of root is refused its user: its pod, and its token's secret, are changed.
        for image in ("", "busybox:stable"):
            job = await client.submit(["sh", "-c", "echo hello; exit 3"], image=image, labels={"team": "a"})
            outcome = await client.wait(job)
            assert (outcome.cause, outcome.exit_code) == (wire.CAUSE_EXIT_CODE, 3), outcome
            assert await output(client, job, STDOUT) == "hello\n"
        script = "[ $HODEI_ATTEMPT -gt 1 ] || sleep 600"
        job = await client.submit(["sh", "-c", script])
        await running(client, job)
        await api.delete(path_of(await pod_of(api, namespace, job)))
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert await causes(client, job) == [wire.CAUSE_EVICTED, wire.CAUSE_EXIT_CODE]
        await nothing_left(api, namespace)


async def rules_of(api: Api, namespace: str, account: str, place: str, file: Path) -> list[Any]:
    """Return what the cluster lets an account do in a place, as the account itself is told."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    token = (await api.create(path, request))["status"]["token"]
    admin = yaml.safe_load(Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config").read_text())
    admin["users"] = [{"name": each["name"], "user": {"token": token}} for each in admin["users"]]
    file.write_text(yaml.safe_dump(admin))
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": place}}
    async with Api(KubernetesConfig(kubeconfig=str(file))) as theirs:
        status = (await theirs.create("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review))["status"]
    rules = [*status["resourceRules"], *status["nonResourceRules"]]
    return sorted(rules, key=str)


async def test_with_one_namespace_a_server_can_give_itself_nothing_in_another(
    kubectl: Kubectl, api: Api, namespace: str, account: Account
) -> None:
    """By what is printed for it: in its own it may bind the role of jobs, and no other; elsewhere nothing at all."""
    kubeconfig, identity = await account("one"), f"system:serviceaccount:{namespace}-home:one"

    async def bind(theirs: Api, place: str, role: str) -> bool:
        binding = make_role_binding(place, identity, "ClusterRole")
        binding["metadata"]["name"] = "another"
        binding["roleRef"]["name"] = role
        await theirs.create(f"{RBAC}/namespaces/{place}/rolebindings", binding, dryRun="All")
        return True

    weaker = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
    more = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{namespace}-more"}}
    spec = {"containers": [{"name": "a", "image": "busybox:stable"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "thief"}, "spec": spec}
    await kubectl.apply(await printed("--identity", identity, HODEI_K8S_NAMESPACE=namespace))
    await until_allowed(api, identity, "create", "serviceaccounts", namespace=namespace)
    async with Api(KubernetesConfig(kubeconfig=kubeconfig)) as theirs:

        async def may_bind() -> bool:
            # Each kind of rules reaches the API server's own cache by itself.
            with contextlib.suppress(ForbiddenError):
                return await bind(theirs, namespace, "hodei-server-jobs")
            return False

        await until(may_bind)
        with pytest.raises(ForbiddenError):
            await bind(theirs, namespace, "cluster-admin")
        with pytest.raises(ForbiddenError):
            await theirs.merge(f"/api/v1/namespaces/{namespace}-home", weaker)
        with pytest.raises(ForbiddenError):
            await theirs.create("/api/v1/namespaces", more, dryRun="All")
        for place in (f"{namespace}-home", "kube-system"):
            with pytest.raises(ForbiddenError):
                await bind(theirs, place, "hodei-server-jobs")
            with pytest.raises(ForbiddenError):
                await theirs.create(f"/api/v1/namespaces/{place}/pods", pod, dryRun="All")


async def test_servers_in_one_cluster_keep_their_rights_whatever_is_applied_for_another(
    kubectl: Kubectl, api: Api, namespace: str, account: Account
) -> None:
    """Each has a binding of its own, and the roles are the same for all, whether they make namespaces or not."""
    settings: dict[str, dict[str, str]] = {
        "makes-many": {"HODEI_K8S_DYNAMIC_NAMESPACES": "true"},
        "given-many": {"HODEI_K8S_DYNAMIC_NAMESPACES": "true", "HODEI_K8S_ENSURE": "false"},
        "makes-one": {},
        "given-one": {"HODEI_K8S_ENSURE": "false"},
    }
    identities = {name: f"system:serviceaccount:{namespace}-home:{name}" for name in settings}
    for name, variables in settings.items():
        await account(name)
        parts = await printed("--identity", identities[name], HODEI_K8S_NAMESPACE=namespace, **variables)
        await kubectl.apply([part for part in parts if part["kind"].startswith("ClusterRole")])
    for identity in identities.values():
        await until_allowed(api, identity, "list", "nodes")
    await until_allowed(api, identities["makes-many"], "create", "namespaces")
    await until_allowed(api, identities["given-many"], "list", "namespaces")


@pytest.mark.usefixtures("account")
async def test_the_workers_account_may_do_what_every_account_may_and_nothing_else(
    make_settings: Callable[..., Any], api: Api, namespace: str, tmp_path: Path
) -> None:
    """W24: neither in its namespace nor elsewhere, by the cluster's own account of it."""
    plain = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "plain"}}
    await api.create(f"/api/v1/namespaces/{namespace}-home/serviceaccounts", plain)
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["sleep", "600"])
        account = (await pod_of(api, namespace, job))["spec"]["serviceAccountName"]
        for place in (namespace, "kube-system"):
            theirs = await rules_of(api, namespace, account, place, tmp_path / "theirs")
            nobodys = await rules_of(api, f"{namespace}-home", "plain", place, tmp_path / "nobodys")
            assert theirs == nobodys
            told = [resource for rule in theirs for resource in rule.get("resources", [])]
            assert told
            assert not {"pods", "secrets", "*"} & set(told)
