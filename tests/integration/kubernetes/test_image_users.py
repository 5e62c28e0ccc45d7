"""As whom a job's own image runs under the standard `restricted`; HODEI_TEST_USER_IMAGE is an image of user 4242."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, SYSTEM, Client, ClientSettings
from hodei_faults.cluster import nothing_left, output, pod_of
from hodei_faults.logs import until_said
from hodei_faults.needs import lacks
from hodei_server.app import Server

MakeSettings = Callable[..., Any]
SCRIPT = "id -u; echo ok > /tmp/x; echo ok > ~/x; cat /tmp/x"
NEVER_AGAIN = wire.RetryPolicy(max_infrastructure_retries=0)


@pytest.fixture
def of_4242() -> str:
    """Return an image whose user is a number and not root."""
    image = os.environ.get("HODEI_TEST_USER_IMAGE", "")
    if not image:
        lacks("HODEI_TEST_USER_IMAGE is not set")
    return image


async def test_an_image_runs_as_its_own_user_where_that_is_a_number_and_not_root(client: Client, of_4242: str) -> None:
    """At the first try; it writes where it may."""
    job = await client.submit(["sh", "-c", SCRIPT], image=of_4242)
    outcome = await client.wait(job)
    assert outcome.state == wire.JOB_STATE_SUCCEEDED, outcome
    assert await output(client, job, STDOUT) == "4242\nok\n"
    assert "made again" not in await output(client, job, SYSTEM)


async def test_an_image_of_root_runs_as_user_1000_in_the_same_attempt_and_at_once_the_next_time(
    client: Client, api: Any, namespace: str
) -> None:
    """W14: the pod is made again, its token with it; its log says why. Nothing is left of either."""
    for first in (True, False):
        job = await client.submit(["sh", "-c", SCRIPT], image="busybox:stable", retry=NEVER_AGAIN)
        outcome = await client.wait(job)
        assert outcome.state == wire.JOB_STATE_SUCCEEDED, outcome
        assert await output(client, job, STDOUT) == "1000\nok\n"
        assert len((await client.get(job)).attempts) == 1
        assert ("image will run as root" in await output(client, job, SYSTEM)) == first
    await nothing_left(api, namespace)


async def test_a_job_that_is_cancelled_while_its_pod_is_made_again_leaves_none(
    client: Client, api: Any, namespace: str
) -> None:
    """W16: whichever of the two is there."""
    job = await client.submit(["sleep", "600"], image="busybox:stable")
    await until_said(client, job, "is made again")
    await client.cancel(job)
    assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED
    await nothing_left(api, namespace)


async def test_where_nobody_but_its_own_user_will_do_an_image_of_root_is_refused(make_settings: MakeSettings) -> None:
    """By a setting, at once, in the kubelet's words."""
    async with (
        Server(make_settings(IMAGE_USER="own"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["true"], image="busybox:stable", retry=NEVER_AGAIN)
        outcome = await client.wait(job)
        assert outcome.cause == wire.CAUSE_IMAGE, outcome
        assert "will run as root" in outcome.message
        (provider,) = await client.providers()
        assert provider.capabilities.image_user == "its own user, a number and not 0"


async def test_where_every_image_runs_as_one_user_none_is_tried_first(
    make_settings: MakeSettings, api: Any, namespace: str, of_4242: str
) -> None:
    """By a setting: as user 1000, whatever an image says."""
    async with (
        Server(make_settings(IMAGE_USER="1000"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["sh", "-c", SCRIPT], image=of_4242)
        assert (await pod_of(api, namespace, job))["spec"]["securityContext"]["runAsUser"] == 1000
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert await output(client, job, STDOUT) == "1000\nok\n"
