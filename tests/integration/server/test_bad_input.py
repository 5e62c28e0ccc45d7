"""Every field of every request against values that make no sense; the cases are made from the descriptors.

A field that is added to the wire is covered by itself: what it takes of the values below must be declared in ACCEPTED,
and a new call must have a request in `fill` that it answers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it has no stubs
from grpc import aio
from sqlalchemy import Engine, Select, select

from hodei.transport import MAX_MESSAGE_BYTES
from hodei.v1 import job_pb2, log_pb2, provider_pb2, worker_pb2
from hodei.v1 import types_pb2 as types_wire
from hodei_client import Client, ClientSettings
from hodei_faults.bad_values import cases
from hodei_server.app import Server
from hodei_server.db.engine import open_engine
from hodei_server.db.schema import log_segments, metadata
from hodei_server.db.segments import SegmentState

METHODS: dict[str, MethodDescriptor] = {
    method.name: method
    for file in (job_pb2, log_pb2, provider_pb2, worker_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.client_streaming
}

Row = tuple[Any, ...]

LABELS = frozenset({"key unknown", "value unknown", "value empty"})

#: What is taken, and why that is right. Everything else is refused by its field's name.
ACCEPTED: dict[str, frozenset[str]] = {
    # Text for people, and names that anybody may choose.
    "SubmitJob.spec.name": frozenset({"unknown"}),
    "SubmitJob.request_id": frozenset({"unknown"}),
    "RetryJob.request_id": frozenset({"unknown"}),
    "CancelJob.reason": frozenset({"unknown"}),
    "SubmitJob.spec.tenant": frozenset({"unknown"}),
    "SubmitJob.spec.labels": LABELS,
    "SubmitJob.spec.preferred_labels": LABELS,
    # Compared with what providers have under keys that they declare.
    "SubmitJob.spec.annotations": LABELS | {"key nul", "key control", "value nul", "value control"},
    # What a program may be given: all but what the system itself can't pass on.
    "SubmitJob.spec.argv": frozenset({"empty", "control", "unknown", "many"}),
    "SubmitJob.spec.environment": LABELS | {"value control"},
    "SubmitJob.spec.script.text": frozenset({"long", "nul", "control", "unknown"}),
    "SubmitJob.spec.script.interpreter": frozenset({"control", "unknown", "many"}),
    "SubmitJob.spec.stdin": frozenset({"empty"}),
    "SubmitJob.spec.priority": frozenset({"negative"}),
    "SubmitJob.spec.log_budget_bytes": frozenset({"most"}),
    "SubmitJob.spec.resources.gpu_type": frozenset({"empty"}),
    # A filter that nothing passes; the same choice however often.
    "ListJobs.name": frozenset({"unknown"}),
    "ListJobs.provider": frozenset({"unknown"}),
    "ListJobs.tenant": frozenset({"unknown"}),
    "ListJobs.labels": LABELS,
    "ListJobs.states": frozenset({"many"}),
    # Of one job, or of all.
    "ListDecisions.job_id": frozenset({"missing", "empty"}),
    "ListDecisions.tenant": frozenset({"unknown"}),
    "GetLogs.streams": frozenset({"many"}),
    "StreamLogs.streams": frozenset({"many"}),
    "SearchLogs.streams": frozenset({"many"}),
    # Something to look for.
    "SearchLogs.pattern": frozenset({"unknown", "nul", "control"}),
    # All of them.
    "VerifyLogs.job_id": frozenset({"missing", "empty"}),
    # Nothing has happened after that yet.
    "WatchJob.after_version": frozenset({"most"}),
    # A worker nobody knows gets the one answer that all unknown ones get; a newer one is told the server's own version.
    "Register.worker_id": frozenset({"unknown"}),
    "Register.otp": frozenset({"unknown"}),
    "Register.worker_version": frozenset({"unknown"}),
}

#: What can be refused only by what is there: no provider offers it.
PRECONDITION: Mapping[str, frozenset[str]] = {
    "SubmitJob.spec.image": frozenset({"unknown"}),
    "SubmitJob.spec.region": frozenset({"unknown"}),
    "SubmitJob.spec.architecture": frozenset({"unknown"}),
    "SubmitJob.spec.required_labels": LABELS,
    **{
        f"SubmitJob.spec.resources.{name}": frozenset({"most"})
        for name in ("cpu_millis", "memory_bytes", "disk_bytes", "gpu_count")
    },
}

# A plan is made for whatever a job may ask, and says where nobody can do it.
for _table in (ACCEPTED, PRECONDITION):
    for _path, _kinds in list(_table.items()):
        if _path.startswith("SubmitJob.spec."):
            ACCEPTED[_path.replace("SubmitJob", "PlanJob")] = _kinds

#: What might be, and is not there: a number that an attempt may have. Names are `unknown` for all calls.
NOT_THERE: Mapping[str, frozenset[str]] = {
    f"{call}.attempt_number": frozenset({"most"}) for call in ("GetLogReceipt", "GetLogs", "StreamLogs", "SearchLogs")
}


@dataclasses.dataclass
class Stage:
    """A server with one ended job, and what is stored there."""

    server: Server
    engine: Engine
    channels: dict[str, aio.Channel]
    known: dict[str, Any]

    def stored(self) -> tuple[dict[str, list[Row]], list[Path]]:
        """Return every row of every table, and the names of all files but the database's own.

        What the server does by itself in the meantime (a new generation, a probe of the disk, why a job that was taken
        waits) is none of a call's.
        """
        with self.engine.connect() as connection:
            rows = {
                table.name: [tuple(row) for row in connection.execute(select(*table.c).order_by(*table.primary_key))]
                for table in metadata.sorted_tables
                if table.name not in {"installation", "decisions"}
            }
        folder = self.server.settings.data_dir
        own = ("hodei.db", "generation", ".")
        return rows, sorted(path for path in files_below(folder) if not path.name.startswith(own))

    def fill(self, method: MethodDescriptor) -> Message:
        """Return a request that is fine."""
        request = message_factory.GetMessageClass(method.input_type)()
        for field in method.input_type.fields:
            value = self.known.get(f"{method.name}.{field.name}", self.known.get(field.name))
            if isinstance(value, Message):
                getattr(request, field.name).CopyFrom(value)
            elif value is not None:
                setattr(request, field.name, value)
        return request

    async def ask(self, method: MethodDescriptor, request: bytes) -> tuple[grpc.StatusCode, list[str], str]:
        """Send an encoded request; return the status, the fields that are named, and the message."""
        service = method.containing_service.full_name
        path = f"/{service}/{method.name}"
        channel = self.channels["worker" if service == "hodei.v1.WorkerService" else "client"]
        try:
            if method.server_streaming:
                streaming: Any = channel.unary_stream(path)
                async for _ in streaming(request, timeout=60):
                    pass
            else:
                unary: Any = channel.unary_unary(path)
                await unary(request, timeout=60)
        except aio.AioRpcError as error:
            return error.code(), named(error), error.details() or ""
        return grpc.StatusCode.OK, [], ""


def files_below(folder: Path) -> list[Path]:
    """Return what is in a folder and those in it; what goes meanwhile is passed over."""
    return [Path(path) / name for path, folders, files in os.walk(folder) for name in (*folders, *files)]


def rows_of(engine: Engine, query: Select[Any]) -> list[Any]:
    """Return what a query finds."""
    with engine.connect() as connection:
        return list(connection.execute(query))


def named(error: aio.AioRpcError) -> list[str]:
    """Return the fields of the BadRequest that a refusal carries."""
    encoded = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if encoded is None:
        return []
    found = []
    for detail in status_pb2.Status.FromString(encoded).details:
        request = error_details_pb2.BadRequest()
        if detail.Unpack(request):
            found += [violation.field for violation in request.field_violations]
    return found


def names(violation: str, path: str) -> bool:
    """Whether a violation is about a field: about it itself, an element of it, or what holds it."""
    plain = violation.partition("[")[0]
    return plain == path or path.startswith(f"{plain}.") or plain.startswith(f"{path}.")


@pytest.fixture
async def stage(make_settings: object) -> AsyncIterator[Stage]:
    """Return a server whose only job has ended, whose log is sealed, and which starts nothing more."""
    assert callable(make_settings)
    options = [("grpc.max_send_message_length", -1)]
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
        aio.insecure_channel(server.address.target, options) as clients,
        aio.insecure_channel(server.worker_address.target, options) as workers,
    ):
        job = await client.submit(["echo", "x"])
        await client.wait(job)
        worker_id = (await client.get(job)).attempts[0].worker_id
        engine = open_engine(server.settings.resolved_database_url)
        unsealed = select(log_segments).where(log_segments.c.state != int(SegmentState.SEALED))
        known = {
            "job_id": job,
            "name": "process",
            "worker_id": worker_id,
            "state": provider_pb2.PROVIDER_STATE_DISABLED,
            "SubmitJob.spec": types_wire.JobSpec(argv=["true"]),
            "PlanJob.spec": types_wire.JobSpec(argv=["true"]),
            "ListJobs.name": "",
            "pattern": "x",
            "otp": "an unknown token",
            "nonce": b"0123456789abcdef",
            "protocol_version": 1,
        }
        ready = Stage(server, engine, {"client": clients, "worker": workers}, known)
        await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_DISABLED)
        folder = server.settings.data_dir
        async with asyncio.timeout(60):
            while (
                [worker.worker_id async for worker in client.workers()]
                or not (suffixes := {path.suffix for path in files_below(folder)}) >= {".closed"}
                or ".open" in suffixes
                or any(folder.glob("providers/process/workers/*"))
                or rows_of(engine, unsealed)
            ):
                await asyncio.sleep(0.02)
        yield ready
        engine.dispose()


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_what_makes_no_sense_is_refused_by_its_name_and_nothing_is_stored(stage: Stage, name: str) -> None:
    """W38: every field of every call is honoured, or refused in a way that programs can act on."""
    method = METHODS[name]
    base = stage.fill(method)
    fine = grpc.StatusCode.UNAUTHENTICATED if name == "Register" else grpc.StatusCode.OK
    assert (await stage.ask(method, base.SerializeToString()))[0] is fine, "give `fill` what this call needs"
    found = []
    declared = {
        (key, kind) for table in (ACCEPTED, PRECONDITION, NOT_THERE) for key, kinds in table.items() for kind in kinds
    }
    declared = {pair for pair in declared if pair[0].startswith(f"{name}.")}
    for case in cases(method.input_type):
        request = case.request(base)
        if request is None:
            continue
        before = stage.stored()
        code, fields, message = await stage.ask(method, request)
        label = f"{case.path} {case.kind}: {code.name} {fields[:5]} {message[:120]}"
        key = f"{name}.{case.path}"
        declared.discard((key, case.kind))
        if case.kind in ACCEPTED.get(key, ()):
            if code is not fine:
                found.append(f"declared as taken: {label}")
            continue
        if case.kind in PRECONDITION.get(key, ()):
            expected = code is grpc.StatusCode.FAILED_PRECONDITION
        elif code is grpc.StatusCode.INVALID_ARGUMENT:
            expected = any(names(field, case.path) for field in fields)
        else:
            absent = case.kind == "unknown" or case.kind in NOT_THERE.get(key, ())
            expected = absent and code is grpc.StatusCode.NOT_FOUND
        if not expected:
            found.append(label)
        elif stage.stored() != before:
            found.append(f"stored: {label}")
    assert found == [], "\n".join(found)
    assert declared == set(), "declared, but nothing of the kind is asked"


async def test_what_is_no_message_is_refused_as_such(stage: Stage) -> None:
    """Garbage, text that is no UTF-8, more than a message may hold: typed, by every call, and nothing stored."""
    before = stage.stored()
    for method in METHODS.values():
        texts = [field.number for field in method.input_type.fields if field.type == FieldDescriptor.TYPE_STRING]
        for data in (b"\xff\xff", *(bytes([number << 3 | 2, 1, 0xFF]) for number in texts)):
            code, fields, _ = await stage.ask(method, data)
            assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["request"]), method.name
        code, fields, message = await stage.ask(method, bytes(MAX_MESSAGE_BYTES + 1))
        # What workers send is seen by the server itself, up to a larger bound.
        seen = method.containing_service.name == "WorkerService"
        typed = (grpc.StatusCode.INVALID_ARGUMENT, ["request"]) if seen else (grpc.StatusCode.RESOURCE_EXHAUSTED, [])
        assert (code, fields) == typed, method.name
        assert str(MAX_MESSAGE_BYTES) in message
    assert stage.stored() == before
