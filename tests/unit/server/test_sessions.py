"""What is on its way to a worker."""

from __future__ import annotations

import asyncio

import pytest

from hodei.v1 import worker_pb2 as wire
from hodei_server.work.sessions import Session, Sessions


def ack(sequence: int) -> wire.LogAck:
    """Return an acknowledgement of the one log there is."""
    return wire.LogAck(attempt_uid="onelog", epoch=1, next_sequence=sequence)


async def test_acknowledgements_that_come_together_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest is all that counts; how many are sent before it is up to the machine."""
    # By then all of them have come on a busy machine, too.
    monkeypatch.setattr("hodei_server.work.sessions.ACK_SECONDS", 0.5)
    session = Session("worker")

    async def sent_until_the_last() -> list[wire.ConnectResponse]:
        messages: list[wire.ConnectResponse] = []
        while messages[-1:] != [wire.ConnectResponse(log_ack=ack(99))]:
            messages += await session.outgoing()
        return messages

    sending = asyncio.create_task(sent_until_the_last())
    for sequence in range(100):
        session.acknowledge(ack(sequence))
        await asyncio.sleep(0)
    assert len(await sending) < 10


async def test_a_message_takes_along_the_acknowledgements_that_wait_and_comes_behind_them() -> None:
    """W32: what a result is answered with never overtakes those of its log."""
    session = Session("worker")
    sending = asyncio.create_task(session.outgoing())
    await asyncio.sleep(0)
    session.acknowledge(ack(3))
    await asyncio.sleep(0)
    answer = wire.ConnectResponse(result_ack=wire.ResultAck(attempt_uid="onelog", epoch=1))
    session.send(answer)
    assert await sending == [wire.ConnectResponse(log_ack=ack(3)), answer]


async def test_a_session_that_is_closed_sends_what_waits_and_then_nothing() -> None:
    """W34: closing wakes whoever merges acknowledgements."""
    session = Session("worker")
    sending = asyncio.create_task(session.outgoing())
    await asyncio.sleep(0)
    session.acknowledge(ack(3))
    await asyncio.sleep(0)
    session.close("over")
    assert await sending == [wire.ConnectResponse(log_ack=ack(3))]
    assert await session.outgoing() == []


async def test_of_a_worker_that_is_gone_nothing_is_kept_whenever_its_connection_ends() -> None:
    """Its provider may confirm that it is gone before the end of its connection is heard of."""
    sessions = Sessions()
    session = sessions.connect("worker")
    began = session.heard_at - 3600
    session.close("it was removed")
    sessions.forget("worker")
    assert sessions.connected() == frozenset()
    sessions.disconnect(session)
    assert sessions.silent_for("worker", since=began) >= 3600
