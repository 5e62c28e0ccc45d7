"""What somebody takes away under a running server, and settings of what is made there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from hodei.address import parse_address
from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import pod_of, until
from hodei_providers.kubernetes.errors import NotThereError
from hodei_server.app import Server

MakeSettings = Callable[..., Any]


async def test_what_somebody_deletes_is_made_again(make_settings: MakeSettings, api: Any, namespace: str) -> None:
    """W28: the account of the workers, then the whole namespace: neither keeps jobs waiting for the next repair."""
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        place = f"/api/v1/namespaces/{namespace}"
        await api.delete(f"{place}/serviceaccounts/hodei-jobs-worker")
        job = await client.submit(["true"])
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert (await api.get(f"{place}/serviceaccounts/hodei-jobs-worker"))["automountServiceAccountToken"] is False
        uid = (await api.get(place))["metadata"]["uid"]
        await api.delete(place)

        async def there_again() -> bool:
            try:
                return bool((await api.get(place))["metadata"]["uid"] != uid)
            except NotThereError:
                return False

        # Nothing is launched, and nothing is repaired by a launch, while the provider is not healthy.
        await until(there_again)
        job = await client.submit(["true"])
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED


MALLORY = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}
EXEC = {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}
#: What somebody makes of each piece of a namespace, by where the API has it.
EDITS: Mapping[str, Mapping[str, Any]] = {
    "/api/v1/namespaces/{}": {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}},
    "/api/v1/namespaces/{}/serviceaccounts/hodei-jobs-worker": {"automountServiceAccountToken": True},
    "/api/v1/namespaces/{}/resourcequotas/hodei-jobs-workers-quota": {"spec": {"hard": {"pods": "1"}}},
    "/api/v1/namespaces/{}/limitranges/hodei-jobs-workers-limits": {
        "spec": {"limits": [{"type": "Container", "default": {"cpu": "9"}}]}
    },
    "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies/hodei-jobs-workers-netpol": {
        "spec": {"ingress": [{}], "egress": [{}], "policyTypes": ["Ingress"]}
    },
    "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles/hodei-server": {"rules": [EXEC]},
    "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings/hodei-server": {"subjects": [MALLORY]},
}
#: What of an object is what somebody wants of it.
CONTENT = ("spec", "rules", "subjects", "roleRef", "automountServiceAccountToken")


async def test_whatever_somebody_edits_or_deletes_is_as_it_was_before_long(
    make_settings: MakeSettings, api: Any, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W28: what no launch fails by, too, as a policy or a right; with the looks at the provider's health."""
    monkeypatch.setattr("hodei_providers.kubernetes.infrastructure.REPAIR_SECONDS", 1.0)
    monkeypatch.setattr("hodei_server.loops.health.SECONDS", 0.5)

    async def content(path: str) -> Any:
        try:
            found = await api.get(path.format(namespace))
        except NotThereError:
            return None
        return {key: found.get(key) for key in CONTENT} | {"labels": found["metadata"]["labels"]}

    async with Server(make_settings(), ephemeral=True):

        async def all_there() -> Any:
            found = {path: await content(path) for path in EDITS}
            return found if None not in found.values() else None

        # The policy comes last: it is made once it is known where workers connect.
        before = await until(all_there)

        async def is_as_before() -> bool:
            return bool({path: await content(path) for path in EDITS} == before)

        for path, edit in EDITS.items():
            assert await api.merge(path.format(namespace), edit)
        await until(is_as_before)
        for path in list(EDITS)[1:]:
            await api.delete(path.format(namespace))
        await until(is_as_before)


async def test_the_role_is_bound_to_the_identity_that_a_setting_names(
    make_settings: MakeSettings, api: Any, namespace: str
) -> None:
    """In place of who this server is."""
    settings = make_settings(SERVER_IDENTITY="system:serviceaccount:control:hodei")
    async with Server(settings, ephemeral=True):
        bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"
        (subject,) = (await api.get(f"{bindings}/hodei-server"))["subjects"]
    assert (subject["kind"], subject["namespace"], subject["name"]) == ("ServiceAccount", "control", "hodei")


async def test_the_network_policy_lets_workers_reach_this_servers_listener(
    make_settings: MakeSettings, api: Any, namespace: str
) -> None:
    """And nothing beside it but names: the server is outside, at an address that nobody has set, and any port."""
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["sh", "-c", 'echo "$HODEI_JOB_ID"; sleep 600'])
        pod = await pod_of(api, namespace, job)
        (container,) = pod["spec"]["containers"]
        (told,) = [each["value"] for each in container["env"] if each["name"] == "HODEI_SERVER_ADDRESS"]
        policy = "networkpolicies/hodei-jobs-workers-netpol"
        spec = (await api.get(f"/apis/networking.k8s.io/v1/namespaces/{namespace}/{policy}"))["spec"]
        await client.cancel(job, force=True)
        await client.wait(job)
    address = parse_address(told)
    assert address.port == server.worker_address.port
    assert spec == {
        "podSelector": {"matchLabels": {"app": pod["metadata"]["labels"]["app"]}},
        "policyTypes": ["Ingress", "Egress"],
        "egress": [
            {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
            {
                "to": [{"ipBlock": {"cidr": f"{address.host}/32"}}],
                "ports": [{"protocol": "TCP", "port": address.port}],
            },
        ],
    }
