"""Ways to the engine and back, and what is let through, by the settings alone: on the real engine."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from hodei.address import parse_address
from hodei.v1 import types_pb2 as wire
from hodei_client import SYSTEM, Client, ClientSettings, PreconditionError
from hodei_faults.containers import container_of, docker, inspect, set_docker
from hodei_faults.logs import read
from hodei_faults.registry import Registry
from hodei_faults.tls_proxy import Authority, TlsProxy
from hodei_providers.docker.config import DockerConfig
from hodei_providers.docker.engine import DEFAULT_SOCKET
from hodei_providers.docker.spec import HOST_GATEWAY_NAME
from hodei_providers.registry import ProviderSetupError
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
WaitFor = Callable[[Callable[[], object]], Awaitable[None]]
NO_RETRY = wire.RetryPolicy(max_infrastructure_retries=0)
#: Says that it runs, and stays until it is told to go on.
WAITING = "touch /mnt/shared/started; while [ ! -e /mnt/shared/go ]; do sleep 0.05; done; echo here"
#: Where nothing listens.
NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Authority]:
    """Return the authority of the engine and of those whom it lets in, and a stranger's."""
    folder = tmp_path_factory.mktemp("tls")
    return {name: Authority(folder / name, "engine", "hodei") for name in ("ours", "theirs")}


@pytest.fixture
async def proxy(authorities: dict[str, Authority]) -> AsyncIterator[TlsProxy]:
    """Return the engine behind TLS."""
    socket = (os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET).removeprefix("unix://")
    async with TlsProxy(socket, authorities["ours"], "engine") as listening:
        yield listening


async def test_an_engine_behind_mutual_tls_runs_jobs(
    make_settings: MakeSettings, proxy: TlsProxy, authorities: dict[str, Authority], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `HODEI_DOCKER_HOST=tcp://…` and the three files; every connection shows the certificate."""
    ours = authorities["ours"]
    files = {"tls_ca": ours.path("ca.pem"), "tls_cert": ours.path("hodei.pem"), "tls_key": ours.path("hodei.key")}
    set_docker(monkeypatch, host=proxy.address, **files)
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["echo", "hello"], retry=NO_RETRY)
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert await read(client, job) == b"hello\n"
    assert set(proxy.clients) == {"hodei"}


#: Whom the server trusts, whose certificate it shows, and what it says.
UNTRUSTED = [
    ("theirs", "ours", r"certificate verify failed.*HODEI_DOCKER_TLS_CA"),
    ("ours", "", "HODEI_DOCKER_TLS_CERT"),
    ("ours", "theirs", "HODEI_DOCKER_TLS_CERT"),
]


@pytest.mark.parametrize("case", UNTRUSTED)
async def test_an_engine_that_is_not_trusted_or_does_not_trust_is_told_at_the_start(
    make_settings: MakeSettings,
    proxy: TlsProxy,
    authorities: dict[str, Authority],
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, str, str],
) -> None:
    """With the settings to look at; no connection comes to be."""
    trusted, shown, words = case
    set_docker(monkeypatch, host=proxy.address, tls_ca=authorities[trusted].path("ca.pem"))
    if shown:
        files = authorities[shown]
        set_docker(monkeypatch, tls_cert=files.path("hodei.pem"), tls_key=files.path("hodei.key"))
    with pytest.raises(ProviderSetupError, match=words):
        async with Server(make_settings(), ephemeral=True):
            pass
    assert proxy.clients == []


@pytest.mark.parametrize("name", ["ca", "cert"])
async def test_a_file_that_is_no_certificate_is_told_at_the_start(
    make_settings: MakeSettings,
    authorities: dict[str, Authority],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """By the name of its setting."""
    (tmp_path / "broken.pem").write_text("no certificate")
    ours = authorities["ours"]
    files = {"tls_ca": ours.path("ca.pem"), "tls_cert": ours.path("hodei.pem"), "tls_key": ours.path("hodei.key")}
    set_docker(monkeypatch, host=f"tcp://{NOWHERE}", **files | {f"tls_{name}": str(tmp_path / "broken.pem")})
    with pytest.raises(ProviderSetupError, match=f"HODEI_DOCKER_TLS_{name.upper()}"):
        async with Server(make_settings(), ephemeral=True):
            pass


@pytest.fixture(params=["bridge", "network"])
def network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the network that is used: the default one, or one of the test's own that a setting names."""
    if request.param == "bridge":
        yield "bridge"
        return
    name = f"hodei-test-{secrets.token_hex(4)}"
    docker("network", "create", name)
    set_docker(monkeypatch, network=name)
    yield name
    docker("network", "rm", name)


@pytest.fixture(params=["gateway", "host-gateway"])
def expected_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return where containers are to find the server: by default, at their gateway when empty; and by a setting."""
    if request.param == "gateway":
        return ""
    set_docker(monkeypatch, server_address="host-gateway")
    return HOST_GATEWAY_NAME


async def test_a_container_finds_its_way_back(
    make_settings: MakeSettings, shared: Path, wait_for: WaitFor, network: str, expected_host: str
) -> None:
    """By its network's gateway or the engine's name for its machine, in the default network and in another."""
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["sh", "-c", WAITING], retry=NO_RETRY)
        await wait_for((shared / "started").exists)
        reported = inspect(container_of(job))
        [(name, joined)] = reported["NetworkSettings"]["Networks"].items()
        assert name == network
        environment = dict(each.split("=", 1) for each in reported["Config"]["Env"])
        assert parse_address(environment["HODEI_SERVER_ADDRESS"]).host == (expected_host or joined["Gateway"])
        (shared / "go").touch()
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert await read(client, job) == b"here\n"


async def test_containers_reach_the_workers_listener_and_not_the_clients(
    server: Server, client: Client, shared: Path, wait_for: WaitFor
) -> None:
    """The one opens at their gateway; the other stays where it is, on the loopback."""
    job = await client.submit(["sh", "-c", WAITING], retry=NO_RETRY)
    await wait_for((shared / "started").exists)
    container = container_of(job)
    environment = dict(each.split("=", 1) for each in inspect(container)["Config"]["Env"])
    workers = parse_address(environment["HODEI_SERVER_ADDRESS"])
    script = "(: > /dev/tcp/$0/$1) 2> /dev/null && echo open || echo closed"
    said = [
        docker("exec", container, "bash", "-c", script, workers.host, str(port)).strip()
        for port in (workers.port, server.address.port)
    ]
    assert said == ["open", "closed"]
    (shared / "go").touch()
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED


async def test_a_network_that_is_not_there_is_told_at_the_start(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of the setting."""
    set_docker(monkeypatch, network="hodei-test-nowhere")
    with pytest.raises(ProviderSetupError, match=r"HODEI_DOCKER_NETWORK.*hodei-test-nowhere"):
        async with Server(make_settings(), ephemeral=True):
            pass


@pytest.fixture
def tag_worker(config: DockerConfig) -> Iterator[Callable[[str], str]]:
    """Return what gives the worker's image another name, of a registry that has never had it."""
    names: list[str] = []

    def tag(registry: str) -> str:
        names.append(f"{registry}/hodei/worker:none")
        docker("tag", config.worker_image, names[-1])
        return names[-1]

    yield tag
    docker("rmi", *names)


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Return a registry that has another image only."""
    saved = subprocess.run(["docker", "save", "busybox:stable"], capture_output=True, check=True, timeout=60).stdout
    with Registry(saved) as serving:
        yield serving


async def test_what_is_always_pulled_never_runs_from_the_copy_that_is_there(
    make_settings: MakeSettings, tag_worker: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W01: a registry that can't be reached is waited for, and the start timeout says so; no container is made."""
    image = tag_worker(NOWHERE)
    set_docker(monkeypatch, pull_policy="always")
    async with (
        Server(make_settings(worker_image=image), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["true"], start_timeout=10, retry=NO_RETRY)
        outcome = await client.wait(job)
        assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_START_TIMEOUT)
        told = (await read(client, job, SYSTEM)).decode()
        assert f"image {image} can't be pulled yet" in told
        assert "connection refused" in told
        assert container_of(job) == ""


async def test_what_is_always_pulled_and_gone_from_its_registry_fails_its_job(
    make_settings: MakeSettings, tag_worker: Callable[[str], str], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W01: at once, by the registry's word, although a copy of it is there."""
    set_docker(monkeypatch, pull_policy="always")
    image = tag_worker(registry.host)
    async with (
        Server(make_settings(worker_image=image), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["true"])
        outcome = await client.wait(job)
        assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_IMAGE)
        assert image in outcome.message
        assert len((await client.get(job)).attempts) == 1


async def test_what_is_never_pulled_and_not_there_fails_its_job_at_once(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W01: with the cause `image` and the setting's name, in one attempt; what is there runs."""
    set_docker(monkeypatch, pull_policy="never")
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job, other = await client.submit(["true"], image=f"{NOWHERE}/hodei/image:1"), await client.submit(["true"])
        outcome = await client.wait(job)
        assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_IMAGE)
        assert "HODEI_DOCKER_PULL_POLICY=never" in outcome.message
        assert len((await client.get(job)).attempts) == 1
        assert (await client.wait(other)).state == wire.JOB_STATE_SUCCEEDED


async def test_more_than_the_most_that_is_set_is_refused_by_name(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W38: the engine would have more; what is just within runs."""
    set_docker(monkeypatch, max_cpu="500m", max_memory="128Mi")
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        with pytest.raises(PreconditionError, match=r"resources\.cpu_millis"):
            await client.submit(["true"], resources=wire.Resources(cpu_millis=501))
        with pytest.raises(PreconditionError, match=r"resources\.memory_bytes"):
            await client.submit(["true"], resources=wire.Resources(memory_bytes=(128 << 20) + 1))
        within = wire.Resources(cpu_millis=500, memory_bytes=128 << 20)
        job = await client.submit(["true"], resources=within, retry=NO_RETRY)
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
