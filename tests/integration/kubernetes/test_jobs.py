"""Jobs as pods of a real cluster, from their submission to their log."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc import aio

from hodei.v1 import types_pb2 as wire
from hodei.v1 import worker_pb2, worker_pb2_grpc
from hodei_client import Client, ClientSettings
from hodei_client.logs import STDERR, STDOUT, SYSTEM, AttemptEnd, Chunk
from hodei_faults.cluster import nothing_left, pod_of, running, until, workers_of
from hodei_faults.logs import until_said
from hodei_faults.ports import free_port
from hodei_server.app import Server

GIB = 1 << 30


async def log_of(client: Client, job: str) -> dict[int, str]:
    """Return a job's whole log, once it has ended, by stream."""
    streams: dict[int, bytes] = {STDOUT: b"", STDERR: b"", SYSTEM: b""}
    ends: list[AttemptEnd] = []
    async for event in client.logs(job):
        if isinstance(event, Chunk):
            streams[event.stream] += event.data
        elif isinstance(event, AttemptEnd):
            ends.append(event)
    assert ends, "the log has no end"
    return {stream: data.decode() for stream, data in streams.items()}


async def test_a_job_runs_as_a_pod_and_its_log_and_code_come_back(client: Client) -> None:
    """L03: an instant job's output is complete, by stream; its exit code is its own."""
    job = await client.submit(["sh", "-c", "echo out; echo err >&2; exit 3"])
    outcome = await client.wait(job)
    assert (outcome.state, outcome.exit_code) == (wire.JOB_STATE_FAILED, 3), outcome
    log = await log_of(client, job)
    assert (log[STDOUT], log[STDERR]) == ("out\n", "err\n")


async def test_nothing_is_left_of_a_pod_that_is_done(client: Client, api: Any, namespace: str) -> None:
    """W42: neither the pod nor the secret with its token."""
    job = await client.submit(["true"])
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    await nothing_left(api, namespace)


@pytest.mark.parametrize(
    ("image", "finds"), [("debian:stable-slim", "/etc/debian_version"), ("busybox:stable", "/bin/busybox")]
)
async def test_any_image_runs_a_job(client: Client, image: str, finds: str) -> None:
    """With glibc, and without any C library: the agent brings its own and the job sees nothing of it."""
    script = "ls -d /etc/debian_version /bin/busybox 2>/dev/null; id -u; env"
    job = await client.submit(["sh", "-c", script], image=image)
    outcome = await client.wait(job)
    log = await log_of(client, job)
    assert outcome.state == wire.JOB_STATE_SUCCEEDED, (outcome, log)
    assert log[STDERR] == ""
    found, user, *variables = log[STDOUT].splitlines()
    assert (found, user) == (finds, "1000")
    assert not [line for line in variables if line.startswith(("HODEI_OTP", "HODEI_SERVER", "LD_", "PYTHON"))]


async def test_a_job_sees_its_images_own_folder_user_and_variables_unless_it_says_otherwise(client: Client) -> None:
    """Of the server's image, which has all of them; its entry point and its settings of Hodei are left out."""
    image = os.environ.get("HODEI_TEST_SERVER_IMAGE", "hodei-jobs-server:latest")
    script = "pwd; id -u; echo $PATH; echo $PYTHONUNBUFFERED; env | grep -c HODEI_HEALTH_LISTEN"
    for own, said in (
        (wire.JobSpec(), ["/var/lib/hodei", "1"]),
        (wire.JobSpec(working_directory="/opt", environment={"PYTHONUNBUFFERED": "mine"}), ["/opt", "mine"]),
    ):
        own.argv.extend(["sh", "-c", script])
        own.image = image
        job = await client.submit(own)
        outcome = await client.wait(job)
        folder, user, path, unbuffered, settings = (await log_of(client, job))[STDOUT].splitlines()
        assert [folder, unbuffered] == said
        assert (user, path.split(":")[0], settings) == ("10001", "/opt/hodei/bin", "0")
        # What `grep` says of nothing.
        assert outcome.exit_code == 1


async def test_what_a_job_asks_reaches_the_pod(client: Client, api: Any, namespace: str) -> None:
    """W37: the API server, and the container's own cgroup, report what was asked."""
    resources = wire.Resources(cpu_millis=200, memory_bytes=GIB // 8, disk_bytes=GIB // 16)
    group = "/sys/fs/cgroup"
    limits_of = (
        f"cat {group}/memory/memory.limit_in_bytes {group}/cpu/cpu.cfs_quota_us {group}/memory.max {group}/cpu.max"
    )
    job = await client.submit(["sh", "-c", f"{limits_of}; echo end; sleep 600"], resources=resources)
    pod = await pod_of(api, namespace, job)
    limits = {"cpu": "200m", "memory": "192Mi", "ephemeral-storage": "1344Mi"}
    assert pod["spec"]["containers"][0]["resources"] == {"limits": limits, "requests": limits}
    assert pod["metadata"]["labels"]["hodei.io/job"] == job
    assert pod["status"]["qosClass"] in {"Guaranteed", "Burstable"}
    said = b""
    async for event in client.logs(job):
        said += event.data if isinstance(event, Chunk) and event.stream == STDOUT else b""
        if b"end" in said:
            break
    # Of the first cgroups, or of the second.
    assert str(192 << 20) in said.decode().split()
    assert "20000" in said.decode().split()
    await client.cancel(job)
    assert (await client.wait(job)).state == wire.JOB_STATE_CANCELLED


async def test_a_token_that_its_own_job_has_read_is_of_no_use(client: Client, server: Server) -> None:
    """W24: it was burnt before the job began; nobody registers with it again."""
    job = await client.submit(["cat", "/run/hodei/credentials/token"])
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    token = (await log_of(client, job))[STDOUT]
    worker_id = (await client.get(job)).attempts[0].worker_id
    assert len(token) > 20
    async with aio.insecure_channel(server.worker_address.target) as channel:
        stub: worker_pb2_grpc.WorkerServiceAsyncStub = worker_pb2_grpc.WorkerServiceStub(channel)
        request = worker_pb2.RegisterRequest(worker_id=worker_id, otp=token, nonce=bytes(16), protocol_version=1)
        with pytest.raises(aio.AioRpcError) as refused:
            await stub.Register(request)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


#: Tries to open what the kernel shows of the agent, which is the pod's first process and the job's parent; then the
#: same of the job itself, so that a way of asking that tells nothing is noticed.
PEEP = """
for process in 1 $PPID $$; do for file in environ mem maps; do
  if ( : < /proc/$process/$file ) 2>/dev/null; then echo "open $file"; else echo "closed $file"; fi
done; done
env | grep -c HODEI_OTP; env | grep -c HODEI_JOB_ID
ls /var/run/secrets/kubernetes.io 2>&1; touch /etc/x 2>&1; echo ok > /tmp/x && echo ok > ~/x && cat /tmp/x
"""


@pytest.mark.parametrize("delivery", ["file", "env"])
async def test_the_job_sees_no_token_and_no_account(
    make_settings: Callable[..., Any], api: Any, namespace: str, delivery: str
) -> None:
    """W24: neither in its own environment nor in the agent's, whose memory is closed, too; the account has none."""
    async with (
        Server(make_settings(OTP_DELIVERY=delivery), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["sh", "-c", PEEP])
        outcome = await client.wait(job)
        said = (await log_of(client, job))[STDOUT]
        assert outcome.state == wire.JOB_STATE_SUCCEEDED, (outcome, said)
        looks, (otp, own, account, root, home) = said.splitlines()[:9], said.splitlines()[9:]
        closed, opened = ["closed environ", "closed mem", "closed maps"], ["open environ", "open mem", "open maps"]
        assert looks == [*closed, *closed, *opened]
        assert (otp, own, home) == ("0", "1", "ok")
        assert "No such file" in account
        assert "Read-only file system" in root
        # Of both deliveries the Secret goes once the token is burnt.
        await until(functools.partial(no_secrets, api, namespace))


async def no_secrets(api: Any, namespace: str) -> bool:
    """Whether a namespace has none."""
    return not (await api.get(f"/api/v1/namespaces/{namespace}/secrets"))["items"]


async def test_a_cancelled_job_leaves_its_pod_no_time(client: Client) -> None:
    """W31: cancelling reaches the process, with its grace."""
    job = await client.submit(["sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done"])
    await until_said(client, job, "up", STDOUT)
    await client.cancel(job)
    outcome = await client.wait(job)
    assert outcome.state in {wire.JOB_STATE_CANCELLED, wire.JOB_STATE_SUCCEEDED}
    assert (await log_of(client, job))[STDOUT] == "up\nbye\n"


async def test_a_server_that_is_started_again_goes_on_with_its_pods(
    make_settings: Callable[..., Any], api: Any, namespace: str
) -> None:
    """W11, W14, W26: the pod runs on, the job runs once, and its log has no hole."""
    settings = make_settings(worker_listen=f"127.0.0.1:{free_port()}")
    async with Server(settings) as first, Client(settings=ClientSettings(first.address)) as client:
        script = "echo one; while ! test -e /tmp/go; do sleep 0.1; done"
        job = await client.submit(["sh", "-c", f"({script}) & for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 1; done"])
        await running(client, job)
        uid = (await pod_of(api, namespace, job))["metadata"]["uid"]
    async with Server(settings, ephemeral=True) as second, Client(settings=ClientSettings(second.address)) as client:
        assert {pod["metadata"]["uid"] for pod in await workers_of(api, namespace)} <= {uid}
        outcome = await client.wait(job)
        assert outcome.state == wire.JOB_STATE_SUCCEEDED, outcome
        assert len((await client.get(job)).attempts) == 1
        log = await log_of(client, job)
        assert sorted(log[STDOUT].split()) == sorted([*"12345678", "one"])
