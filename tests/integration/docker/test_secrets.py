"""Secrets of jobs in containers: in the job, and in nothing that the engine or the server keeps or shows."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Chunk, Client, ClientSettings
from hodei_faults.containers import container_of, docker, inspect
from hodei_server.app import Server
from hodei_server.settings import Settings

VALUE = "pa55word-of-a-container"
SCRIPT = """
echo "$TOKEN"; printf %s "$TOKEN" | base64; cat "$HODEI_SECRETS_DIR/token"
stat -c '%a %n' "$HODEI_SECRETS_DIR/token"; stat -f -c %T "$HODEI_SECRETS_DIR"
test "$TOKEN" = "$(cat "$HODEI_SECRETS_DIR/token")" && echo the same
touch /mnt/shared/started; while [ ! -e /mnt/shared/go ]; do sleep 0.05; done
"""


async def test_a_secret_is_in_the_job_and_nowhere_else(
    make_settings: Callable[..., Settings],
    shared: Path,
    wait_for: Callable[[Callable[[], object]], Awaitable[None]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """L23: neither the container's configuration, nor its output, nor the data folder, nor any log has it."""
    (tmp_path / "keys").write_bytes(base64.b64encode(b"k" * 32))
    settings = make_settings(secrets_key_file=str(tmp_path / "keys"), log_level="debug")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        secrets = {"TOKEN": VALUE, "file": wire.Secret(value=VALUE.encode(), file="token")}
        job = await client.submit(["sh", "-c", SCRIPT], secrets=secrets)
        await wait_for((shared / "started").exists)
        container = container_of(job)
        seen_by_engine = json.dumps(inspect(container)) + docker("logs", container)
        (shared / "go").touch()
        assert (await client.wait(job)).exit_code == 0
        log = b"".join([event.data async for event in client.logs(job) if isinstance(event, Chunk)])
    assert log.startswith(b"***\n***=\n***600 /dev/shm/"), log
    assert log.endswith(b"tmpfs\nthe same\n"), log
    kept = b"".join(file.read_bytes() for file in settings.data_dir.rglob("*") if file.is_file())
    printed = "".join(capfd.readouterr())
    for form in (VALUE, base64.b64encode(VALUE.encode()).decode()[:-4]):
        assert form not in seen_by_engine
        assert form not in printed
        assert form.encode() not in kept
        assert form.encode() not in log
