"""What the Docker provider makes of requests and answers, without an engine."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp
import pytest

from hodei_providers.agent import AGENT_COMMAND, AGENT_FOLDER
from hodei_providers.contract import (
    ExitReason,
    ImageRejectedError,
    LaunchRejectedError,
    ProviderError,
    ProviderUnavailableError,
    QuotaExceededError,
    Resources,
    UnsupportedRequestError,
    WorkerPhase,
)
from hodei_providers.docker.config import Device, DockerConfig, Mount
from hodei_providers.docker.credentials import DOCKER_HUB, credentials_for, registry_of
from hodei_providers.docker.description import describe_container
from hodei_providers.docker.engine import EngineFacts
from hodei_providers.docker.errors import provider_error
from hodei_providers.docker.images import Progress, pull_error
from hodei_providers.docker.spec import ImageFacts, container_spec, state_archive
from hodei_providers.registry import MissingExtraError, load_provider
from hodei_providers.testing import make_request

IMAGE = ImageFacts("sha256:1234", "1000:1000", "/home/hodei")


def spec(config: DockerConfig | None = None, *, agent_volume: str = "", **request: Any) -> dict[str, Any]:
    """Return the container of a request."""
    return container_spec(make_request(**request), config or DockerConfig(), IMAGE, agent_volume)


def test_a_container_is_closed_unless_a_setting_opens_it() -> None:
    """No privilege is given that nobody asked for."""
    host = spec()["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], [], False)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["ReadonlyRootfs"]
    assert host["Devices"] == []
    opened = spec(
        DockerConfig(
            read_only_root=False,
            no_new_privileges=False,
            capabilities=("CHOWN",),
            devices=(Device("/dev/fuse", "/dev/fuse", "rw"),),
            mounts=(Mount("/a", "/b", read_only=True),),
            runtime="runsc",
            user="5:6",
            network="build",
        )
    )
    host = opened["HostConfig"]
    assert (host["CapAdd"], host["SecurityOpt"], host["ReadonlyRootfs"]) == (["CHOWN"], [], False)
    assert host["Devices"] == [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rw"}]
    assert {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True} in host["Mounts"]
    assert (host["Runtime"], host["NetworkMode"], opened["User"]) == ("runsc", "build", "5:6")


def test_resources_are_exactly_what_was_asked_plus_the_agents() -> None:
    """W37: and no swap beside the memory."""
    host = spec(resources=Resources(250, 100 << 20, 1 << 30, 2))["HostConfig"]
    assert host["NanoCpus"] == 250_000_000
    assert host["Memory"] == host["MemorySwap"] == (100 << 20) + DockerConfig().memory_overhead
    assert host["StorageOpt"] == {"size": str(1 << 30)}
    assert host["DeviceRequests"] == [{"Count": 2, "Capabilities": [["gpu"]]}]


def test_a_job_that_asks_for_nothing_gets_the_defaults() -> None:
    """Or no limit where there are none."""
    config = DockerConfig(default_cpu=500, default_memory=64 << 20, memory_overhead=0)
    host = spec(config)["HostConfig"]
    assert (host["NanoCpus"], host["Memory"]) == (500_000_000, 64 << 20)
    assert not {"NanoCpus", "Memory", "StorageOpt", "DeviceRequests"} & spec()["HostConfig"].keys()


def test_a_users_image_gets_the_agent_and_no_token_is_in_what_the_engine_shows() -> None:
    """W24: its entry point is replaced; the token travels by another way."""
    made = spec(agent_volume="hodei-agent-1", image="busybox", otp="the one-time token", ca_pem=b"pem")
    assert made["Entrypoint"] == list(AGENT_COMMAND)
    assert made["Cmd"] == []
    mount = {"Type": "volume", "Source": "hodei-agent-1", "Target": AGENT_FOLDER, "ReadOnly": True}
    assert mount in made["HostConfig"]["Mounts"]
    assert "the one-time token" not in json.dumps(made)
    assert "Entrypoint" not in spec()


def test_only_a_worker_of_several_jobs_empties_folders_and_none_that_others_may_have() -> None:
    """What a setting mounts there, or above, is not the container's alone."""
    name = "HODEI_SCRATCH_FOLDERS"
    assert name not in str(spec()["Env"])
    assert f"{name}=/tmp:/dev/shm:/home/hodei" in spec(max_jobs=2)["Env"]
    mounts = tuple(Mount("/a", target, read_only=False) for target in ("/home", "/tmp/", "/dev/shm/deeper"))
    assert f"{name}=/dev/shm" in spec(DockerConfig(mounts=mounts), max_jobs=0)["Env"]


def test_labels_of_ours_can_not_be_overridden() -> None:
    """W12: whose a container is, nobody else says."""
    config = DockerConfig(container_labels={"hodei.installation": "another", "team": "ops"})
    labels = spec(config, labels={"job": "j1", "installation": "another"})["Labels"]
    assert labels["hodei.installation"] == make_request().installation_id
    assert (labels["team"], labels["hodei.job"]) == ("ops", "j1")


@pytest.mark.parametrize(
    ("user", "owner", "mode"),
    [("", (0, 0), 0o400), ("0", (0, 0), 0o400), ("7", (7, 0), 0o400), ("7:8", (7, 8), 0o400), ("app", (0, 0), 0o444)],
)
def test_the_token_belongs_to_the_containers_user(user: str, owner: tuple[int, int], mode: int) -> None:
    """W24: read-only for it alone, where its number is known."""
    request = make_request()
    with tarfile.open(fileobj=io.BytesIO(state_archive(request, user))) as archive:
        token = archive.getmember("worker/otp")
        file = archive.extractfile(token)
        assert file is not None
        assert file.read().decode() == request.otp
    assert ((token.uid, token.gid), token.mode) == (owner, mode)


def inspected(**state: Any) -> dict[str, Any]:
    """Return what the engine says of a container."""
    return {"Id": "c" * 64, "State": state, "Config": {"Labels": {"hodei.worker": "w1"}}}


@pytest.mark.parametrize(
    ("state", "phase", "reason", "code", "number"),
    [
        ({"Status": "running"}, WorkerPhase.RUNNING, ExitReason.UNKNOWN, None, None),
        ({"Status": "created"}, WorkerPhase.MISSING, ExitReason.UNKNOWN, None, None),
        ({"Status": "exited", "ExitCode": 7}, WorkerPhase.EXITED, ExitReason.EXITED, 7, None),
        ({"Status": "exited", "ExitCode": 137}, WorkerPhase.EXITED, ExitReason.SIGNALLED, None, 9),
        (
            {"Status": "exited", "ExitCode": 137, "OOMKilled": True},
            WorkerPhase.EXITED,
            ExitReason.OUT_OF_MEMORY,
            None,
            None,
        ),
        ({"Status": "created", "ExitCode": 127, "Error": "x"}, WorkerPhase.EXITED, ExitReason.EXITED, 127, None),
        ({"Status": "exited", "ExitCode": 0, "OOMKilled": True}, WorkerPhase.EXITED, ExitReason.EXITED, 0, None),
    ],
)
def test_an_end_is_told_by_its_type(
    state: dict[str, Any], phase: WorkerPhase, reason: ExitReason, code: int | None, number: int | None
) -> None:
    """W06, W07: memory, signal and exit code are three things."""
    found = describe_container(inspected(**state))
    assert (found.phase, found.reason, found.exit_code, found.signal) == (phase, reason, code, number)
    assert found.handle.worker_id == "w1"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (aiodocker.DockerError(900, "Cannot connect [No such file or directory]"), ProviderUnavailableError),
        (aiodocker.DockerError(500, "something broke"), ProviderUnavailableError),
        # Of an engine that was just ending.
        (
            aiodocker.DockerError(500, "failed to update store: open : no such file or directory"),
            ProviderUnavailableError,
        ),
        (aiodocker.DockerError(404, "get hodei-w1: database not open"), ProviderUnavailableError),
        (aiodocker.DockerError(500, "OCI runtime create failed: exec: no"), LaunchRejectedError),
        (aiodocker.DockerError(400, "unknown or invalid runtime name: x"), LaunchRejectedError),
        # Somebody has removed it since, or the machine has too little of something.
        (aiodocker.DockerError(404, "No such container: hodei-w1"), ProviderUnavailableError),
        (aiodocker.DockerError(404, "No such image: hodei-jobs-worker:latest"), ProviderUnavailableError),
        (
            aiodocker.DockerError(500, "OCI runtime create failed: fork/exec: resource temporarily unavailable"),
            ProviderUnavailableError,
        ),
        # The runtime's program is being replaced, as by an upgrade.
        (
            aiodocker.DockerError(500, "OCI runtime start failed: fork/exec /usr/bin/runc: text file busy: <nil>"),
            ProviderUnavailableError,
        ),
        (aiodocker.DockerError(409, "removal of container x is already in progress"), ProviderUnavailableError),
        (aiodocker.DockerError(404, "network x not found"), LaunchRejectedError),
        (aiodocker.DockerError(400, "invalid mount config"), LaunchRejectedError),
        (aiodocker.DockerError(429, "too many"), QuotaExceededError),
        (aiodocker.DockerError(500, "write: no space left on device"), QuotaExceededError),
        (aiodocker.DockerError(500, 'could not select device driver "" with [[gpu]]'), UnsupportedRequestError),
        (aiodocker.DockerError(400, "Minimum memory limit allowed is 6MB"), UnsupportedRequestError),
        (TimeoutError(), ProviderUnavailableError),
        (aiohttp.ServerDisconnectedError(), ProviderUnavailableError),
        (ConnectionResetError("reset"), ProviderUnavailableError),
    ],
)
def test_foreign_errors_become_the_contracts(error: BaseException, kind: type[ProviderError]) -> None:
    """None leaks; what nothing heals is told from what may pass."""
    assert type(provider_error(error, "starting")) is kind


@pytest.mark.parametrize(
    ("message", "hopeless"),
    [
        ("pull access denied for x, repository does not exist or may require 'docker login'", True),
        ("manifest for x:1 not found: manifest unknown: manifest unknown", True),
        ("unauthorized: authentication required", True),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", True),
        ("Get https://registry-1.docker.io/v2/: dial tcp: lookup registry-1.docker.io: no such host", False),
        ("toomanyrequests: You have reached your pull rate limit", False),
        ("received unexpected HTTP status: 503 Service Unavailable", False),
        ("net/http: TLS handshake timeout", False),
    ],
)
def test_a_pull_that_nothing_heals_is_told_from_one_that_may(message: str, hopeless: bool) -> None:  # noqa: FBT001 - a case
    """W01: the one fails at once, the other is tried again."""
    for status in (0, 500):
        found = pull_error("x:1", aiodocker.DockerError(status, message))
        assert isinstance(found, ImageRejectedError) is hopeless
        assert isinstance(found, ProviderUnavailableError) is not hopeless


def test_progress_of_a_pull_is_summed_over_its_layers() -> None:
    """A line for people."""
    progress = Progress()
    messages: list[dict[str, object]] = [
        {"status": "Pulling from library/x", "id": "latest"},
        {"status": "Already exists", "id": "a"},
        {"status": "Downloading", "id": "b", "progressDetail": {"current": 1_000_000, "total": 4_000_000}},
        {"status": "Downloading", "id": "c", "progressDetail": {"current": 2_000_000, "total": 2_000_000}},
        {"status": "Pull complete", "id": "c"},
    ]
    for message in messages:
        progress.add(message)
    assert str(progress) == "2 of 3 layers there, 3.0 MB of 6.0 MB fetched"


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("busybox", DOCKER_HUB),
        ("library/busybox:1", DOCKER_HUB),
        ("docker.io/library/busybox", DOCKER_HUB),
        ("ghcr.io/a/b@sha256:1", "ghcr.io"),
        ("localhost/a", "localhost"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000"),
    ],
)
def test_the_registry_is_found_as_docker_finds_it(image: str, registry: str) -> None:
    """A first part with a dot or a colon is a host."""
    assert registry_of(image) == registry


async def test_a_file_of_credentials_that_is_not_there_means_none(tmp_path: Path) -> None:
    """And one that can't be read is told."""
    assert await credentials_for("busybox", tmp_path / "config.json") is None
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ProviderUnavailableError, match="can't be read"):
        await credentials_for("busybox", tmp_path / "config.json")
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "of-nobody"}))
    with pytest.raises(ProviderUnavailableError, match="docker-credential-of-nobody can't be run"):
        await credentials_for("busybox", tmp_path / "config.json")


@pytest.mark.parametrize(
    ("storage", "limits"),
    [
        ("overlay2 on xfs", True),
        ("zfs", True),
        ("zfs on zfs", True),
        ("btrfs", True),
        ("overlay2 on extfs", False),
        ("overlay2 on tmpfs", False),
        ("overlay2", False),
        ("overlayfs", False),
        ("fuse-overlayfs", False),
        ("vfs on xfs", False),
        ("aufs", False),
        ("a driver of tomorrow", False),
        ("", False),
    ],
)
def test_whether_disk_can_be_limited_goes_by_the_storage_driver(storage: str, limits: bool) -> None:  # noqa: FBT001 - a case
    """W38: what it can't do is refused."""
    assert dataclasses.replace(EngineFacts(1, 1), storage=storage).limits_disk is limits


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    for name in [name for name in sys.modules if name.startswith("hodei_providers.docker.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiodocker", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hodei-jobs\[docker\]'"):
        load_provider("docker", "docker", data_dir=tmp_path, options={}, environment={})
