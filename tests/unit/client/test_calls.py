"""Submits, watches, errors and traces."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import os
import socket
import subprocess
import sys
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it has no stubs
from grpc import aio

from hodei.address import Address
from hodei.v1 import job_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import (
    Chunk,
    Client,
    ClientSettings,
    HodeiError,
    InvalidRequestError,
    PlainClient,
    UnavailableError,
    read_settings,
)
from hodei_client.errors import _KINDS, from_rpc
from hodei_client.specs import make_spec

BROKEN = grpc.StatusCode.UNAVAILABLE


def event(version: int, *, ended: bool = False) -> job_pb2.WatchJobResponse:
    """Return a state change."""
    response = job_pb2.WatchJobResponse(event=job_pb2.JobEvent(version=version))
    if ended:
        response.outcome.state = wire.JOB_STATE_SUCCEEDED
    return response


async def test_a_submit_that_is_repeated_names_the_same_request(server: Any, client: Client) -> None:
    """A lost answer makes no second job."""
    server.submit_failures = [BROKEN, BROKEN]
    await client.get("j")
    assert await client.submit(["true"], name="n", run_timeout=0.25) == "j"
    assert len({request.request_id for request in server.submits}) == 1
    assert len(server.submits) == 3
    assert server.submits[0].spec.run_timeout.ToMilliseconds() == 250
    assert await client.submit(["true"], request_id="mine") == "j"
    assert server.submits[-1].request_id == "mine"


def test_the_plain_client_does_all_that_the_asynchronous_one_does() -> None:
    """By the same names, and each takes the same; only what it returns is there without waiting."""

    def calls(kind: type) -> dict[str, list[inspect.Parameter]]:
        public = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
        return {name: [*inspect.signature(call).parameters.values()] for name, call in public.items()}

    assert calls(PlainClient) == calls(Client)
    assert {"logs", "submit", "prune_logs", "drain_worker"} <= calls(Client).keys()


async def test_two_submits_are_two_requests(server: Any, client: Client) -> None:
    """The id that is made up is made up anew."""
    await client.submit(["true"])
    await client.submit(["true"])
    assert len({request.request_id for request in server.submits}) == 2


async def test_what_is_wrong_with_a_request_is_not_tried_again(server: Any, client: Client) -> None:
    """Once is enough to know."""
    server.submit_failures = [grpc.StatusCode.INVALID_ARGUMENT]
    with pytest.raises(InvalidRequestError, match="not now"):
        await client.submit(["true"])
    assert len(server.submits) == 1


async def test_a_watch_tells_each_change_once_over_breaks(server: Any, client: Client) -> None:
    """L06: one that ends without an outcome is a break, too."""
    server.scripts = [[event(1), BROKEN], [event(2)], [event(3), event(4, ended=True)]]
    versions = [response.event.version async for response in client.watch("j")]
    assert versions == [1, 2, 3, 4]
    assert [request.after_version for request in server.watch_requests] == [0, 1, 2]


async def test_a_watch_from_behind_the_last_change_ends(server: Any, client: Client) -> None:
    """There is nothing left to tell of a job that had ended; `wait` has its outcome all the same."""
    server.job = wire.Job(state=wire.JOB_STATE_FAILED, version=9, outcome=wire.Outcome(state=wire.JOB_STATE_FAILED))
    server.scripts = [[], [event(9, ended=True)]]
    assert [response async for response in client.watch("j", after_version=9)] == []
    assert (await client.wait("j")).state == wire.JOB_STATE_SUCCEEDED


async def test_changes_that_came_while_a_watch_was_broken_are_told(server: Any, client: Client) -> None:
    """An ended job doesn't end the watch while versions are missing."""
    server.job = wire.Job(state=wire.JOB_STATE_SUCCEEDED, version=2)
    server.scripts = [[event(1)], [event(2, ended=True)]]
    assert [response.event.version async for response in client.watch("j")] == [1, 2]


async def test_pages_are_one_list(client: Client) -> None:
    """However many there are."""
    assert [job.job_id async for job in client.list()] == ["j0", "j1", "j2"]


async def test_a_server_that_is_not_there_is_told_at_once() -> None:
    """With one line that says what to do; a port where nobody answers takes no longer than a connection may."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings = ClientSettings(Address("127.0.0.1", unused.getsockname()[1]))
        async with Client(settings=settings) as client:
            for work in (client.get("j"), client.wait("j"), anext(aiter(client.logs("j")))):
                with pytest.raises(UnavailableError, match="start one with 'hodei server'") as caught:
                    await work
                assert "\n" not in str(caught.value)
                assert caught.value.trace_id == client.trace_id


async def test_a_port_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is taken and left alone is no server."""
    monkeypatch.setattr("hodei_client.connection.CONNECT_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with Client(settings=ClientSettings(Address("127.0.0.1", silent.getsockname()[1]))) as client:
            with pytest.raises(UnavailableError, match="no answer in"):
                await client.get("j")


async def test_a_trace_comes_from_the_environment_and_stays_one(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is a span of its own; what is no trace, or the forbidden one of zeros, is not taken."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    monkeypatch.setenv("TRACEPARENT", f"00-{trace}-b7ad6b7169203331-01")
    async with Client(settings=server.settings()) as client:
        await client.submit(["true"])
        await client.submit(["true"])
    parts = [entry["traceparent"].split("-") for entry in server.metadata]
    assert [part[1] for part in parts] == [trace, trace]
    assert parts[0][2] != parts[1][2]
    for given in ("nonsense", f"00-{'0' * 32}-b7ad6b7169203331-01"):
        monkeypatch.setenv("TRACEPARENT", given)
        assert Client(settings=server.settings()).trace_id not in {trace, "0" * 32}


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_status_is_an_error_of_ours(code: grpc.StatusCode) -> None:
    """With the server's own words, its code and the trace."""
    trailing = aio.Metadata(("trace-id", "abc"))
    found = from_rpc(aio.AioRpcError(code, aio.Metadata(), trailing, details="why"), "here")
    assert isinstance(found, _KINDS.get(code, HodeiError))
    assert (str(found), found.code, found.trace_id) == ("why", code, "abc")


def test_fields_that_are_wrong_are_told_apart() -> None:
    """From the details, where the package that reads them is there; the message has them in any case."""
    request = error_details_pb2.BadRequest()
    request.field_violations.add(field="spec.argv", description="is empty")
    packed = AnyMessage()
    packed.Pack(request)
    details: bytes = status_pb2.Status(code=3, message="m", details=[packed]).SerializeToString()
    trailing = aio.Metadata(("grpc-status-details-bin", details))
    found = from_rpc(aio.AioRpcError(grpc.StatusCode.INVALID_ARGUMENT, aio.Metadata(), trailing, "m"), "here")
    assert [(each.field, each.description) for each in found.violations] == [("spec.argv", "is empty")]


def test_settings_come_from_arguments_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One place reads them."""
    monkeypatch.setenv("HODEI_SERVER", "https://far:1")
    monkeypatch.setenv("HODEI_TENANT", "team")
    assert str(read_settings().server) == "https://far:1"
    assert str(read_settings("near:2").server) == "near:2"
    assert read_settings().tenant == "team"


def test_a_command_is_never_split_or_joined() -> None:
    """W41; and a field that does not exist is named."""
    assert list(make_spec(["echo", "a b", ""]).argv) == ["echo", "a b", ""]
    with pytest.raises(TypeError, match="not one string"):
        make_spec("echo hi")
    with pytest.raises(TypeError, match="'nmae'"):
        make_spec(["true"], nmae="x")


def test_durations_are_exact() -> None:
    """W40."""
    spec = make_spec(["true"], run_timeout=0.001, cancel_grace=dt.timedelta(microseconds=1500))
    assert spec.run_timeout.ToNanoseconds() == 1_000_000
    assert spec.cancel_grace.ToNanoseconds() == 1_500_000


async def test_the_plain_client_does_the_same(server: Any, says: Any) -> None:
    """In a program without asyncio; an iteration that is left early ends its stream."""
    zero = says["chunk"](0)
    server.scripts = [
        [says["start"](), says["block"](zero), says["end"](zero)],
        [event(1, ended=True)],
        [says["start"](), says["block"](zero), None],
    ]

    def program() -> tuple[bytes, int]:
        with PlainClient(settings=server.settings()) as hodei:
            job = hodei.submit(["true"])
            data = b"".join(event.data for event in hodei.logs(job) if isinstance(event, Chunk))
            outcome = hodei.wait(job)
            for _ in hodei.logs(job):
                break
            return data, outcome.state

    assert await asyncio.to_thread(program) == (b"0\n", wire.JOB_STATE_SUCCEEDED)
    await server.cancelled.wait()


def test_a_plain_client_that_can_not_begin_leaves_no_thread() -> None:
    """A setting that is wrong is told, and nothing is left behind."""
    hodei = PlainClient(settings=ClientSettings(Address("192.0.2.1", 1)))
    with pytest.raises(ValueError, match="HODEI_ALLOW_PLAINTEXT"), hodei:
        pass
    assert not hodei._thread.is_alive()


def test_the_client_needs_neither_click_nor_the_details_package() -> None:
    """What it imports is grpcio, protobuf and the standard library."""
    program = (
        "import sys\n"
        "for name in ('click', 'yaml', 'google.rpc', 'structlog', 'sqlalchemy'): sys.modules[name] = None\n"
        "import hodei_client, hodei_client.errors as e\n"
        "assert e._violations(b'') == []\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=dict(os.environ))
