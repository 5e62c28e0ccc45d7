"""Jobs with secrets that are submitted again under their request_id."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings, ConflictError, InvalidRequestError, PreconditionError
from hodei_faults.secrets import VALUE, write_key
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Client]:
    """Run a server; yield a client."""
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        yield client


async def test_the_same_submission_is_known_by_its_values_too(make_secret_settings: MakeSettings) -> None:
    """Another value under the same request_id is another job; what is kept to tell is of no use without the key."""
    async with serving(make_secret_settings()) as client:
        job = await client.submit(["true"], secrets={"TOKEN": VALUE}, request_id="r")
        assert await client.submit(["true"], secrets={"TOKEN": VALUE}, request_id="r") == job
        with pytest.raises(ConflictError):
            await client.submit(["true"], secrets={"TOKEN": VALUE + "!"}, request_id="r")


async def test_what_was_taken_is_told_again_though_its_reference_is_gone(
    make_secret_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a client whose answer was lost would submit the job a second time; what is new is refused."""
    secret = {"T": wire.Secret(server_variable="SHARED_TOKEN")}
    async with serving(make_secret_settings()) as client:
        job = await client.submit(["true"], secrets=secret, request_id="once")
        monkeypatch.delenv("SHARED_TOKEN")
        assert await client.submit(["true"], secrets=secret, request_id="once") == job
        with pytest.raises(ConflictError):
            await client.submit(["false"], secrets=secret, request_id="once")
        with pytest.raises(InvalidRequestError, match="server_variable"):
            await client.submit(["true"], secrets=secret, request_id="another")


async def test_what_was_taken_is_told_again_though_its_key_is_gone(
    make_secret_settings: MakeSettings, make_settings: MakeSettings, tmp_path: Path
) -> None:
    """All but the values is compared then, as nothing is left that could tell them; what is new is refused."""
    secrets = {"TOKEN": VALUE}
    async with serving(make_secret_settings()) as client:
        job = await client.submit(["true"], secrets=secrets, request_id="once")
        await client.wait(job)
        again = await client.retry(job, secrets=secrets, request_id="again")
        await client.wait(again)
    write_key(tmp_path / "keys", b"n" * 32)
    for settings in (make_secret_settings(), make_settings()):
        async with serving(settings) as client:
            assert await client.submit(["true"], secrets=secrets, request_id="once") == job
            assert await client.retry(job, secrets=secrets, request_id="again") == again
            with pytest.raises(ConflictError):
                await client.submit(["false"], secrets=secrets, request_id="once")
            with pytest.raises(ConflictError):
                await client.submit(["true"], secrets={"OTHER": VALUE}, request_id="once")
            with pytest.raises(ConflictError):
                await client.submit(["true"], secrets=secrets, request_id="again")
            with pytest.raises(ConflictError):
                await client.submit(["true"], request_id="once")
    async with serving(settings) as client:
        with pytest.raises(PreconditionError, match="HODEI_SECRETS_KEY_FILE"):
            await client.submit(["true"], secrets=secrets, request_id="new")
