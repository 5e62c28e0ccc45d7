"""What the cluster refuses to take: its rules say why, and the job passes it on."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import PATIENCE, nothing_left, output, remove, until
from hodei_server.app import Server
from hodei_server.authority import WorkerAuthority

MakeSettings = Callable[..., Any]


async def test_what_the_pod_security_standard_refuses_is_waited_for_until_it_is_settled(
    make_settings: MakeSettings, api: Any, namespace: str
) -> None:
    """W04, W36: an administrator enforces more than the server was told; the job waits, and `explain` has the words."""
    enforce = "pod-security.kubernetes.io/enforce"
    space = {"kind": "Namespace", "metadata": {"name": namespace, "labels": {enforce: "restricted"}}}
    await api.create("/api/v1/namespaces", space)
    account = {"kind": "ServiceAccount", "metadata": {"name": "hodei-jobs-worker"}}
    await api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    settings = make_settings(ENSURE="false", POD_SECURITY_STANDARD="privileged")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        job = await client.submit(["true"])

        async def refused() -> str:
            reason = (await client.explain(job)).providers[0].reason
            return reason if "violates PodSecurity" in reason else ""

        assert "allowPrivilegeEscalation" in await until(refused)
        await api.merge(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {enforce: "privileged"}}})
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED


@pytest.fixture
async def objection(api: Any, namespace: str, orders: Any, tmp_path: Path) -> AsyncIterator[list[str]]:
    """Return a list: as long as it holds a reason, the cluster asks a webhook of ours, which refuses pods for that."""
    WorkerAuthority(tmp_path / "webhook", [orders.host])  # writes what it makes there
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "webhook" / "server.pem", tmp_path / "webhook" / "server.key")
    reasons: list[str] = []

    async def review(request: web.Request) -> web.Response:
        asked = (await request.json())["request"]
        # The provider's probe is let through: else no job would be given to it, and no pod refused.
        refused = bool(reasons) and not asked.get("dryRun")
        answer: dict[str, Any] = {"uid": asked["uid"], "allowed": not refused}
        if refused:
            answer["status"] = {"code": 403, "message": reasons[0]}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})

    application = web.Application()
    application.router.add_post("/", review)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, orders.host, 0, ssl_context=context).start()
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    ca = (tmp_path / "webhook" / "ca.pem").read_bytes()
    await api.create(path, make_webhook(namespace, f"https://{orders.host}:{runner.addresses[0][1]}/", ca))
    yield reasons
    await remove(api, f"{path}/{namespace}")
    await runner.cleanup()


def make_webhook(namespace: str, url: str, ca: bytes) -> dict[str, Any]:
    """Return what has the cluster ask a webhook about the pods of one namespace."""
    hook = {
        "name": "calendar.hodei-test.example",
        "clientConfig": {"url": url, "caBundle": base64.b64encode(ca).decode()},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 30,
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    return {**kind, "metadata": {"name": namespace}, "webhooks": [hook]}


async def test_what_a_webhook_refuses_fails_with_its_words(
    make_settings: MakeSettings, api: Any, namespace: str, objection: list[str]
) -> None:
    """W04: whose rule it was and why, in the outcome and in the log, in words that RBAC might use; nothing is left."""
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        # Configurations of webhooks reach the API server's own cache after a moment.
        objection.append('user "alice" cannot run pods on a Friday')
        async with asyncio.timeout(PATIENCE):
            while True:
                job = await client.submit(["true"])
                outcome = await client.wait(job)
                if outcome.state != wire.JOB_STATE_SUCCEEDED:
                    break
        assert outcome.cause == wire.CAUSE_UNSCHEDULABLE, outcome
        # No retry could change the rule.
        assert [each.number for each in (await client.get(job)).attempts] == [1]
        assert "calendar.hodei-test.example" in outcome.message
        assert 'user "alice" cannot run pods on a Friday' in outcome.message
        assert 'user "alice" cannot run pods on a Friday' in await output(client, job)
        objection.clear()
        job = await client.submit(["true"])
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        await nothing_left(api, namespace)
