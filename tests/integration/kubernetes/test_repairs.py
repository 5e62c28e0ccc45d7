"""What somebody takes away under a running server, and settings of what is made there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
