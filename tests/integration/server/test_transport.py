"""Encryption, health, reflection, traces: what surrounds every call."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from hodei.transport import TlsFiles, open_channel
from hodei.v1 import types_pb2 as types_wire
from hodei_client import Client, ClientSettings, UnavailableError
from hodei_server.app import Server


def openssl(*arguments: str, folder: Path) -> None:
    """Run openssl."""
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_authority(folder: Path, name: str) -> None:
    """Make a certificate authority."""
    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
        *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
        folder=folder,
    )


def make_certificate(folder: Path, name: str, authority: str, *, days: str = "2") -> None:
    """Make a certificate for this machine, or for a client of a name."""
    openssl(
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        f"/CN={name}",
        "-keyout",
        f"{name}.key",
        "-out",
        "req",
        folder=folder,
    )
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n" if name == "server" else "basicConstraints=CA:FALSE\n")
    openssl(
        *("x509", "-req", "-in", "req", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial"),
        *("-days", days, "-extfile", "ext", "-out", f"{name}.pem"),
        folder=folder,
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two authorities, a server's certificate, and a client's of each."""
    folder = tmp_path_factory.mktemp("certificates")
    for authority in ("ours", "theirs"):
        make_authority(folder, authority)
    make_certificate(folder, "server", "ours")
    make_certificate(folder, "alice", "ours")
    make_certificate(folder, "mallory", "theirs")
    return folder


def secured(make_settings: object, certificates: Path, **more: str) -> Server:
    """Return a server with TLS on both listeners."""
    assert callable(make_settings)
    files = {
        "tls_cert": str(certificates / "server.pem"),
        "tls_key": str(certificates / "server.key"),
        "worker_tls_cert": str(certificates / "server.pem"),
        "worker_tls_key": str(certificates / "server.key"),
        "worker_tls_ca": str(certificates / "ours.pem"),
    }
    return Server(make_settings(**files, **more), ephemeral=True)


async def test_a_job_runs_over_tls_from_the_client_to_the_worker(make_settings: object, certificates: Path) -> None:
    """Both listeners; the worker is given the authority to trust."""
    async with secured(make_settings, certificates) as server:
        assert str(server.address).startswith("https://")
        tls = TlsFiles(ca=certificates / "ours.pem")
        async with Client(settings=ClientSettings(server.address, tls)) as client:
            assert (await client.wait(await client.submit(["true"]))).state == types_wire.JOB_STATE_SUCCEEDED
        wrong = TlsFiles(ca=certificates / "theirs.pem")
        async with Client(settings=ClientSettings(server.address, wrong)) as client:
            with pytest.raises(UnavailableError):
                await client.get("j")


async def test_mutual_tls_lets_in_whom_the_authority_knows(make_settings: object, certificates: Path) -> None:
    """Every call runs as the certificate's name, which is kept with the job."""
    authority = str(certificates / "ours.pem")
    async with secured(make_settings, certificates, tls_client_ca=authority) as server:
        for name in ("", "mallory"):
            files = (certificates / f"{name}.pem", certificates / f"{name}.key") if name else (None, None)
            tls = TlsFiles(certificates / "ours.pem", *files)
            async with Client(settings=ClientSettings(server.address, tls)) as client:
                with pytest.raises(UnavailableError):
                    await client.get("j")
        tls = TlsFiles(certificates / "ours.pem", certificates / "alice.pem", certificates / "alice.key")
        async with Client(settings=ClientSettings(server.address, tls)) as client:
            job = await client.submit(["true"])
            assert (await client.get(job)).principal == "alice"


async def test_health_is_told_per_service(server: Server) -> None:
    """Serving once everything is recovered."""
    async with open_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "hodei.v1.JobService", "hodei.v1.LogStreamService", "hodei.v1.ProviderService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_names_the_services_of_clients_only(server: Server) -> None:
    """Tools find what is served; the worker's service is not on this listener."""
    async with open_channel(server.address) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        names = {service.name for service in answer.list_services_response.service}
        assert {"hodei.v1.JobService", "hodei.v1.LogStreamService", "hodei.v1.ProviderService"} <= names
        assert "hodei.v1.WorkerService" not in names
        await call.done_writing()
    async with open_channel(server.worker_address) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_one_trace_runs_from_the_client_through_server_and_worker(make_settings: object, tmp_path: Path) -> None:
    """In the job, in the server's log, in the worker's log and in the job's own environment."""
    assert callable(make_settings)
    script = f"echo $TRACEPARENT > {tmp_path}/seen; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"
    with structlog.testing.capture_logs() as entries:
        async with (
            Server(make_settings(log_level="info"), ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            job = await client.submit(["sh", "-c", script])
            async with asyncio.timeout(60):
                while not (tmp_path / "seen").exists() or not (tmp_path / "seen").read_text().strip():
                    await asyncio.sleep(0.02)
            worker_log = next(server.settings.data_dir.rglob("worker.log")).read_text()
            (tmp_path / "go").touch()
            await client.wait(job)
            assert client.trace_id in (await client.get(job)).traceparent
    assert client.trace_id in (tmp_path / "seen").read_text()
    of_worker = [json.loads(line) for line in worker_log.splitlines() if '"job_id"' in line]
    assert of_worker
    assert all(line["trace_id"] == client.trace_id for line in of_worker)
    of_server = [entry for entry in entries if entry.get("job_id") == job]
    assert {entry["event"] for entry in of_server} >= {"attempt.assigned", "attempt.ended"}
    assert all(entry["trace_id"] == client.trace_id for entry in of_server)
