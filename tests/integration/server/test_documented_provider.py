"""The provider that docs/extending.md shows: what the page says of it is so."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.logs import read
from hodei_providers.contract import Provider
from hodei_providers.testing import MakeProvider, ProviderContract
from hodei_server.app import Server
from hodei_server.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"


@pytest.fixture
def shell_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Provider]:
    """Return the class; its workers' folders are made in the test's."""
    (text,) = re.findall(r"^```python\n(import asyncio\n.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PATH", f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    names: dict[str, Any] = {}
    exec(text, names)  # noqa: S102 - it is the project's own
    made: Callable[..., Provider] = names["ShellProvider"]
    return made


class TestShellProvider(ProviderContract):
    #: The one that the page excepts: nothing is watched.
    test_an_exit_is_described_and_watched = None  # type: ignore[assignment]

    @pytest.fixture
    def make_provider(self, shell_provider: Callable[..., Provider], tmp_path: Path) -> MakeProvider:
        """Return providers over this machine's processes."""
        return lambda: shell_provider("shell", data_dir=tmp_path, options={})


async def test_its_worker_registers_and_runs_a_job(
    shell_provider: Callable[..., Provider], make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite has no server: that the token arrives is seen here alone."""

    def load(_kind: str, name: str, *, data_dir: Path, **_: object) -> Provider:
        return shell_provider(name, data_dir=data_dir, options={})

    monkeypatch.setattr("hodei_server.opening.load_provider", load)
    async with (
        Server(make_settings(start_timeout="30s"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        job = await client.submit(["echo", "here"], retry={"max_infrastructure_retries": 0})
        assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
        assert await read(client, job) == b"here\n"
