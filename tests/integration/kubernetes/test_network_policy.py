"""What a job reaches, and what it doesn't, where the cluster's network enforces policies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Client, ClientSettings
from hodei_faults.cluster import output, remove, until
from hodei_server.app import Server

#: Ends with 1 once this machine is out of reach, with 0 if it never is: a network may take a moment for a new pod. It
#: is, where that is so three times in a row: a busy machine may be slow to answer.
PROBE = """\
missed=0
for _ in $(seq 10); do
    if nc -w 5 {host} {port} </dev/null; then missed=0; else missed=$((missed + 1)); fi
    [ $missed -lt 3 ] || exit 1
    sleep 1
done
"""
#: Tells which of these addresses a job can connect to, and whether names are answered.
LOOK = """\
see() {{ nc -w 5 $2 $3 </dev/null >/dev/null 2>&1 && echo "$1 reached" || echo "$1 refused"; }}
see machine {host} {port}
see neighbour {neighbour} 8080
nslookup kubernetes.default.svc.cluster.local >/dev/null && echo "names answered"
"""


class Space:
    """A namespace with pods of busybox."""

    def __init__(self, api: Any, name: str) -> None:
        self._api, self._name = api, name

    async def make(self) -> None:
        """Have the namespace, where a pod named `probe` may call nobody."""
        await self._api.create("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": self._name}})
        closed = {"podSelector": {"matchLabels": {"is": "probe"}}, "policyTypes": ["Egress"]}
        kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "probe"}}
        await self._api.create(
            f"/apis/networking.k8s.io/v1/namespaces/{self._name}/networkpolicies", kind | {"spec": closed}
        )

    async def run(self, name: str, script: str) -> None:
        """Start a pod."""
        command = ["sh", "-c", script]
        container = {"name": name, "image": "busybox:stable", "imagePullPolicy": "IfNotPresent", "command": command}
        spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
        pod = {"kind": "Pod", "metadata": {"name": name, "labels": {"is": name}}, "spec": spec}
        await self._api.create(f"/api/v1/namespaces/{self._name}/pods", pod)

    async def status(self, pod: str, *phases: str) -> Any:
        """Return a pod's status once it is in one of these phases."""

        async def found() -> Any:
            status = (await self._api.get(f"/api/v1/namespaces/{self._name}/pods/{pod}"))["status"]
            return status if status.get("phase") in phases else None

        return await until(found)

    async def remove(self) -> None:
        """Take it away with all that is in it."""
        await remove(self._api, f"/api/v1/namespaces/{self._name}")


@pytest.fixture
async def neighbour(api: Any, namespace: str, orders: Any) -> AsyncIterator[str]:
    """Return the address of a pod that anybody may call at port 8080; skip where the network enforces no policies.

    Whether it does is tried: a pod that may call nobody calls this machine.
    """
    space = Space(api, f"{namespace}-near")
    await space.make()
    try:
        await space.run("neighbour", "exec httpd -f -p 8080")
        await space.run("probe", PROBE.format(host=orders.host, port=orders.port))
        if (await space.status("probe", "Succeeded", "Failed"))["phase"] == "Succeeded":
            # In CI, too: which network a cluster has is not the project's to say.
            pytest.skip("the cluster's network enforces no policies: a pod that may call nobody called this machine")
        yield (await space.status("neighbour", "Running"))["podIP"]
    finally:
        await space.remove()


@pytest.mark.parametrize("opened", ["nothing", "machine", "neighbour"])
async def test_a_job_reaches_the_server_and_names_and_beyond_that_what_is_opened(
    make_settings: Callable[..., Any], neighbour: str, orders: Any, opened: str
) -> None:
    """Its log has come, so its worker has reached the server; the same address is closed on another port."""
    ways = {"nothing": [], "machine": [(orders.host, orders.port)], "neighbour": [(neighbour, 8080)]}[opened]
    egress = [{"to": [{"ipBlock": {"cidr": f"{host}/32"}}], "ports": [{"port": port}]} for host, port in ways]
    settings = make_settings(NETWORK_EGRESS=json.dumps(egress))
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        script = LOOK.format(host=orders.host, port=orders.port, neighbour=neighbour)
        job = await client.submit(["sh", "-c", script], image="busybox:stable")
        outcome = await client.wait(job)
        said = await output(client, job, STDOUT)
    assert outcome.state == wire.JOB_STATE_SUCCEEDED, (outcome, said)
    seen = [f"{name} {'reached' if name == opened else 'refused'}" for name in ("machine", "neighbour")]
    assert said.splitlines() == [*seen, "names answered"]
