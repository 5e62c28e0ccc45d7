"""Secrets of jobs in pods: in the job, and in nothing that the cluster or the server keeps or shows."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Chunk, Client, ClientSettings
from hodei_server.app import Server
from hodei_server.settings import Settings

VALUE = "pa55word-of-a-pod"
SCRIPT = """
echo "$TOKEN"; printf %s "$TOKEN" | base64; cat "$HODEI_SECRETS_DIR/token"
stat -c '%a %n' "$HODEI_SECRETS_DIR/token"; stat -f -c %T "$HODEI_SECRETS_DIR"
test "$TOKEN" = "$(cat "$HODEI_SECRETS_DIR/token")" && echo the same
trap 'exit 7' TERM; while true; do sleep 0.05; done
"""


async def test_a_secret_is_in_the_job_and_nowhere_else(
    make_settings: Callable[..., Settings], api: Any, namespace: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """L23: neither the pod, nor a Secret or event of the cluster's, nor the data folder, nor any log has it."""
    (tmp_path / "keys").write_bytes(base64.b64encode(b"k" * 32))
    settings = make_settings(secrets_key_file=str(tmp_path / "keys"), log_level="debug")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        secrets = {"TOKEN": VALUE, "file": wire.Secret(value=VALUE.encode(), file="token")}
        job = await client.submit(["sh", "-c", SCRIPT], secrets=secrets)
        log, in_cluster = b"", ""
        async for event in client.logs(job):
            if isinstance(event, Chunk):
                log += event.data
            if b"the same" in log and not in_cluster:
                for kind in ("pods", "secrets", "events", "configmaps"):
                    in_cluster += json.dumps(await api.get(f"/api/v1/namespaces/{namespace}/{kind}"))
                await client.cancel(job)
        await client.wait(job)
    assert job in in_cluster
    assert b"***\n***=\n***600 /dev/shm/" in log, log
    assert b"tmpfs\nthe same\n" in log, log
    kept = b"".join(file.read_bytes() for file in settings.data_dir.rglob("*") if file.is_file())
    printed = "".join(capfd.readouterr())
    encoded = base64.b64encode(VALUE.encode()).decode()
    for form in (VALUE, encoded[:-4], base64.b64encode(encoded.encode()).decode()[:20]):
        assert form not in in_cluster
        assert form not in printed
        assert form.encode() not in kept
        assert form.encode() not in log
