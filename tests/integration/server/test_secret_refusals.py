"""Secrets that a server refuses, and files of keys that it can't use."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings, InvalidRequestError, PreconditionError
from hodei_faults.secrets import VALUE, bad_secrets, kept_rows
from hodei_server.app import Server
from hodei_server.settings import Settings, SettingsError

MakeSettings = Callable[..., Settings]


@pytest.fixture
async def server(make_secret_settings: MakeSettings) -> AsyncIterator[Server]:
    """Return a running server that may keep and give secrets."""
    async with Server(make_secret_settings(), ephemeral=True) as running:
        yield running


async def test_values_are_refused_where_there_is_no_key(make_settings: MakeSettings) -> None:
    """Nothing is kept that can't be encrypted; references need no key, but what the operator names."""
    async with (
        Server(make_settings(), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        with pytest.raises(PreconditionError, match="HODEI_SECRETS_KEY_FILE"):
            await client.submit(["true"], secrets={"TOKEN": VALUE})
        with pytest.raises(InvalidRequestError, match="HODEI_SECRETS_ENV"):
            await client.submit(["true"], secrets={"T": wire.Secret(server_variable="PATH")})
        with pytest.raises(InvalidRequestError, match="HODEI_SECRETS_FOLDER"):
            await client.submit(["true"], secrets={"T": wire.Secret(server_file="key")})
        assert not [job async for job in client.list()]


async def test_what_is_wrong_with_secrets_is_named_and_nothing_is_kept(server: Server) -> None:
    """L23, W38: each field by its name, never with a word of a value; no job is made of it, and no value kept."""
    async with Client(settings=ClientSettings(server.address)) as client:
        for case, secrets, expected in bad_secrets():
            with pytest.raises(InvalidRequestError) as refused:
                await client.submit(
                    ["echo", "shown elsewhere"], secrets=secrets, environment={"SET": "1"}, request_id=case
                )
            assert expected in str(refused.value), (case, str(refused.value))
            assert VALUE not in str(refused.value), case
        assert not [job async for job in client.list()]
        assert kept_rows(server.settings) == []


async def test_a_key_file_that_can_t_be_used_is_named(make_settings: MakeSettings, tmp_path: Path) -> None:
    """The server does not start, and says which line; never with a word of what is there."""
    file = tmp_path / "keys"
    for text, expected in (
        (None, "can't be read: No such file"),
        (b"", "there is no key in"),
        (b"# only this\n", "there is no key in"),
        (base64.b64encode(b"k" * 32) + b"\n" + base64.b64encode(b"k" * 31), "line 2 of"),
        (b"s3cr3t but no base64!", "line 1 of"),
    ):
        if text is not None:
            file.write_bytes(text)
        with pytest.raises(SettingsError, match="HODEI_SECRETS_KEY_FILE") as refused:
            async with Server(make_settings(secrets_key_file=str(file)), ephemeral=True):
                pass
        assert expected in str(refused.value)
        assert "s3cr3t" not in str(refused.value)
