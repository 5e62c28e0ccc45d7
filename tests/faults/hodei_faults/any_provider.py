"""What a job and its worker do over a server, wherever the worker lives: each provider's tests inherit it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import ClassVar

import pytest

from hodei.v1 import provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Client, ClientSettings
from hodei_faults.cluster import PATIENCE, running
from hodei_faults.logs import read, until_said
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
#: Says that it runs, and says so, too, when it is asked to end.
ASKED = "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.1; done"
#: Tells what a job finds where jobs may write, then leaves something everywhere.
LEAVING = """
for folder in "$PWD" $FOLDERS; do ls -A "$folder"; done
ls -d ../scratch-* | wc -l
for folder in "$PWD" $FOLDERS; do
    cd "$folder" && mkdir -p deep/er && echo secret >deep/er/left && echo secret >.left && chmod 0 deep
done
"""


async def worker_of(client: Client, job: str) -> str:
    """Return the worker of a job's only attempt."""
    (attempt,) = (await client.get(job)).attempts
    return attempt.worker_id


async def warm_worker(client: Client, *, but: str = "") -> str:
    """Wait for a worker that waits for its first job; return its id."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async for worker in client.workers():
                if worker.warm and worker.connected and worker.worker_id != but:
                    return worker.worker_id
            await asyncio.sleep(0.1)


class AnyProvider:
    """Jobs of one provider. Its folder's fixtures bring ``make_settings``.

    :cvar provider: its name.
    :cvar folders: beside the working directory, where its jobs may write what nobody else sees.
    """

    provider: ClassVar[str]
    folders: ClassVar[tuple[str, ...]] = ()

    @pytest.fixture
    async def anywhere(self, make_settings: MakeSettings) -> AsyncIterator[Client]:
        """Return a client of a server that has this provider only."""
        async with (
            Server(make_settings(), ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            yield client

    async def test_a_jobs_standard_input_arrives_whole_and_is_closed_where_there_is_none(
        self, anywhere: Client
    ) -> None:
        """Every byte value, and more than a pipe holds."""
        given = bytes(range(256)) * 1024
        fed = await anywhere.submit(["cat"], stdin=given)
        unfed = await anywhere.submit(["cat"])
        for job, expected in ((fed, given), (unfed, b"")):
            assert (await anywhere.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            assert await read(anywhere, job) == expected

    async def test_the_worker_ends_what_runs_for_too_long_and_a_signal_is_told_as_such(self, anywhere: Client) -> None:
        """W05, W07: the job is asked to end, has its last word, and keeps the cause; what kills itself has a signal."""
        # By then it has said so on a busy machine, too.
        late = await anywhere.submit(["sh", "-c", ASKED], run_timeout=10)
        stubborn = await anywhere.submit(["sh", "-c", "trap '' TERM; sleep 600"], run_timeout=1, cancel_grace=0.2)
        killed = {number: await anywhere.submit(["sh", "-c", f"kill -{number} $$"]) for number in (9, 11, 15)}
        for job in (late, stubborn):
            outcome = await anywhere.wait(job)
            assert (outcome.state, outcome.cause) == (wire.JOB_STATE_TIMED_OUT, wire.CAUSE_RUN_TIMEOUT)
            # In the worker's words: the server's own clock, which is for workers that hang, has others.
            assert outcome.message == "Ran longer than its run timeout"
        assert await read(anywhere, late) == b"up\nasked\n"
        for number, job in killed.items():
            outcome = await anywhere.wait(job)
            assert (outcome.state, outcome.cause) == (wire.JOB_STATE_FAILED, wire.CAUSE_SIGNAL)
            assert (outcome.signal, outcome.HasField("exit_code")) == (number, False)
        for job in (late, stubborn, *killed.values()):
            assert (await anywhere.receipt(job)).complete
            assert len((await anywhere.get(job)).attempts) == 1

    async def test_a_job_takes_the_worker_that_waits_and_another_is_started(
        self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """W44: the pool's worker runs it, and the pool is filled again."""
        monkeypatch.setenv(f"HODEI_PROVIDER_{self.provider.upper()}_POOL_MIN_READY", "1")
        async with (
            Server(make_settings(), ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            ready = await warm_worker(client)
            job = await client.submit(["echo", "hello"])
            assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
            assert (await worker_of(client, job), await read(client, job)) == (ready, b"hello\n")
            assert await warm_worker(client, but=ready)

    async def test_a_worker_runs_as_many_jobs_as_it_may_and_none_finds_what_another_has_left(
        self, make_settings: MakeSettings
    ) -> None:
        """One tenant's, one after the other; also what a job has closed to its own user is gone."""
        async with (
            Server(make_settings(worker_max_jobs="2"), ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            workers, found = [], []
            for _ in range(3):
                job = await client.submit(["sh", "-c", LEAVING], environment={"FOLDERS": " ".join(self.folders)})
                assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
                workers.append(await worker_of(client, job))
                found.append(await read(client, job))
            assert workers[0] == workers[1] != workers[2]
            assert found[0] == found[1] == found[2]

    async def test_a_provider_that_is_drained_ends_nothing_and_takes_nothing(self, anywhere: Client) -> None:
        """W36: what runs there goes on until it is asked to end itself; what comes waits, and says for what."""
        first = await anywhere.submit(["sh", "-c", ASKED])
        await until_said(anywhere, first, "up", STDOUT)
        await anywhere.set_provider_state(self.provider, provider_pb2.PROVIDER_STATE_DRAINING)
        second = await anywhere.submit(["true"])
        async with asyncio.timeout(PATIENCE):
            while "drain" not in (await anywhere.explain(second)).providers[0].reason:
                await asyncio.sleep(0.05)
        await running(anywhere, first)
        await anywhere.cancel(first)
        await anywhere.wait(first)
        assert await read(anywhere, first) == b"up\nasked\n"
        assert (await anywhere.receipt(first)).complete
        assert len((await anywhere.get(first)).attempts) == 1
        assert not (await anywhere.get(second)).attempts
        await anywhere.set_provider_state(self.provider, provider_pb2.PROVIDER_STATE_ENABLED)
        assert (await anywhere.wait(second)).state == wire.JOB_STATE_SUCCEEDED
