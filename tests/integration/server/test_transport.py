"""Encryption, health, reflection, traces: what surrounds every call."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
import structlog
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sqlalchemy import func, select

from hodei.address import parse_address
from hodei.transport import TlsFiles, open_channel
from hodei.v1 import types_pb2 as types_wire
from hodei.v1 import worker_pb2, worker_pb2_grpc
from hodei_client import Client, ClientSettings, UnavailableError
from hodei_server.app import Server
from hodei_server.db.engine import open_engine
from hodei_server.db.schema import metadata
from hodei_server.rpc.listener import ListenerError


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
    (folder / "ext").write_text(
        "subjectAltName=IP:127.0.0.1\n" if name.startswith("server") else "basicConstraints=CA:FALSE\n"
    )
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
    make_certificate(folder, "server-expired", "ours", days="-1")
    make_certificate(folder, "alice-expired", "ours", days="-1")
    (folder / "broken.pem").write_text("no certificate")
    return folder


def stored(server: Server) -> dict[str, int]:
    """Return how many rows each table has."""
    engine = open_engine(server.settings.resolved_database_url)
    with engine.connect() as connection:
        counts = {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return counts


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
    return Server(make_settings(**(files | more)), ephemeral=True)


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


#: What a client has (its certificate, whom it trusts, whether it speaks TLS), the server's certificate, and the words.
STRANGERS = {
    "wrong authority": ("alice", "https", "theirs.pem", "server", "certificate .* is not accepted .*--tls-ca"),
    "expired server": ("alice", "https", "ours.pem", "server-expired", "certificate .* has expired"),
    "expired client": ("alice-expired", "https", "ours.pem", "server", "still valid .*--tls-cert"),
    "foreign client": ("mallory", "https", "ours.pem", "server", "its own authority .*--tls-cert"),
    "no certificate": ("", "https", "ours.pem", "server", "want a certificate .*--tls-cert"),
    "plain text": ("", "http", "", "server", "may want TLS; write https://"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_a_stranger_is_told_what_is_missing_and_stores_nothing(
    make_settings: object, certificates: Path, stranger: str
) -> None:
    """By the client's error and by one line of the command; the words name what to change."""
    name, scheme, trusted, certificate, words = STRANGERS[stranger]
    async with secured(
        make_settings,
        certificates,
        tls_cert=str(certificates / f"{certificate}.pem"),
        tls_key=str(certificates / f"{certificate}.key"),
        tls_client_ca=str(certificates / "ours.pem"),
    ) as server:
        address = parse_address(f"{scheme}://{server.address.target}")
        files = (certificates / f"{name}.pem", certificates / f"{name}.key") if name else (None, None)
        tls = TlsFiles(certificates / trusted if trusted else None, *files)
        before = stored(server)
        async with Client(settings=ClientSettings(address, tls)) as client:
            with pytest.raises(UnavailableError, match=words):
                await client.submit(["true"])
        options = {"--server": str(address), "--tls-ca": tls.ca, "--tls-cert": tls.certificate, "--tls-key": tls.key}
        given = [str(part) for option, value in options.items() if value for part in (option, value)]
        hodei = str(Path(sys.executable).with_name("hodei"))
        command = await asyncio.create_subprocess_exec(
            *(hodei, *given, "submit", "--", "true"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await command.communicate()
        assert (command.returncode, out) == (125, b"")
        assert re.search(words, err.decode())
        assert err.count(b"\n") == 1
        assert stored(server) == before


@pytest.mark.parametrize("stranger", ["wrong authority", "expired server", "plain text"])
async def test_the_workers_listener_takes_no_stranger(make_settings: object, certificates: Path, stranger: str) -> None:
    """A worker that trusts somebody else, or nobody, never tells its token."""
    certificate = "server-expired" if stranger == "expired server" else "server"
    async with secured(
        make_settings,
        certificates,
        worker_tls_cert=str(certificates / f"{certificate}.pem"),
        worker_tls_key=str(certificates / f"{certificate}.key"),
    ) as server:
        address = server.worker_address
        tls = TlsFiles(certificates / ("theirs.pem" if stranger == "wrong authority" else "ours.pem"))
        if stranger == "plain text":
            address, tls = parse_address(f"http://{address.target}"), TlsFiles()
        before = stored(server)
        async with open_channel(address, tls) as channel:
            stub: worker_pb2_grpc.WorkerServiceAsyncStub = worker_pb2_grpc.WorkerServiceStub(channel)
            request = worker_pb2.RegisterRequest(worker_id="w", otp="o", nonce=bytes(16), protocol_version=1)
            with pytest.raises(aio.AioRpcError) as caught:
                await stub.Register(request)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert stored(server) == before
        assert server.sessions.refusals == {}


def test_a_file_that_holds_no_certificate_is_named(certificates: Path) -> None:
    """Before anything is sent."""
    for files in (TlsFiles(certificates / "broken.pem"), TlsFiles(None, *[certificates / "broken.pem"] * 2)):
        with pytest.raises(OSError, match=r"PEM.*broken\.pem"):
            open_channel(parse_address("https://127.0.0.1:1"), files)


async def test_a_certificate_that_is_none_keeps_the_server_from_starting(
    make_settings: object, certificates: Path
) -> None:
    """The message names the listener and the files as what may be wrong."""
    with pytest.raises(ListenerError, match=r"HODEI_LISTEN.*certificate"):
        await secured(make_settings, certificates, tls_cert=str(certificates / "broken.pem")).__aenter__()


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
            file = next(server.settings.data_dir.rglob("worker.log"))
            async with asyncio.timeout(60):
                # Of whole lines; it says so when the process is there already.
                while '"job_id"' not in (worker_log := file.read_text().rpartition("\n")[0]):
                    await asyncio.sleep(0.02)
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
