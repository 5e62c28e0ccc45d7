"""Server-side encryption, and buckets named in the host, on an S3 server of the test's own that knows both."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from hodei_faults.needs import lacks
from hodei_faults.ports import free_port
from hodei_logstore.contract import SegmentKey, StoreUnavailableError
from hodei_logstore.file import FileLogStore
from hodei_logstore.s3 import Bucket, S3LogStore
from hodei_logstore.testing import append_all, block, read_all
from hodei_server.log_archive import s3_config
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
USER, PASSWORD = "of-the-test", "secret-of-the-test"
KEY_NAME = "key-of-the-test"
BUCKET = "of-the-test"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where that server keeps its objects."""
    return tmp_path_factory.mktemp("minio")


@pytest.fixture(scope="module")
def endpoint(folder: Path) -> Iterator[str]:
    """Run MinIO with a key to encrypt with and a domain for names of buckets; return its URL."""
    program = os.environ.get("HODEI_TEST_MINIO") or shutil.which("minio")
    if program is None:
        lacks("there is no program of an S3 server (HODEI_TEST_MINIO)")
    port = free_port()
    environment = os.environ | {
        "MINIO_ROOT_USER": USER,
        "MINIO_ROOT_PASSWORD": PASSWORD,
        "MINIO_BROWSER": "off",
        "MINIO_DOMAIN": "localhost",
        "MINIO_KMS_SECRET_KEY": f"{KEY_NAME}:{base64.b64encode(bytes(32)).decode()}",
    }
    command = [program, "server", str(folder), "--address", f"127.0.0.1:{port}", "--quiet"]
    with (
        (folder.parent / "minio.log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_for(f"http://127.0.0.1:{port}/minio/health/ready", process)
            yield f"http://localhost:{port}"
        finally:
            process.terminate()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - ours
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the S3 server does not come up")


@pytest.fixture(autouse=True)
def resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all names below `localhost` be this machine, and the credentials be that server's."""
    found = socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **more: Any) -> Any:
        return found("127.0.0.1" if host.endswith("localhost") else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for name, value in {"ACCESS_KEY_ID": USER, "SECRET_ACCESS_KEY": PASSWORD, "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture
def plain(endpoint: str, resolved: None) -> Any:  # noqa: ARG001 - it must have been done
    """Return boto3's own client, with the test's bucket made."""
    client = boto3.session.Session().client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))
    if BUCKET not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def make_bucket(tmp_path: Path, endpoint: str) -> Callable[..., Bucket]:
    """Return what makes a bucket of a server's settings, with a prefix of the test's own."""

    def make(**settings: str) -> Bucket:
        from hodei_server.settings import load_settings  # noqa: PLC0415 - beside its only use

        fixed = {"data_dir": str(tmp_path / "data"), "s3_bucket": BUCKET, "s3_endpoint": endpoint}
        return Bucket(s3_config(load_settings({**fixed, "s3_prefix": tmp_path.name, **settings}), "here"))

    return make


@pytest.mark.parametrize(
    "settings",
    [
        {"s3_encryption": "AES256"},
        {"s3_encryption": "aws:kms", "s3_encryption_key": KEY_NAME},
    ],
    ids=["AES256", "aws:kms"],
)
@pytest.mark.parametrize("addressing", ["path", "virtual"])
async def test_all_that_is_stored_is_encrypted_as_asked_and_reads_the_same(
    plain: Any, make_bucket: Callable[..., Bucket], tmp_path: Path, settings: dict[str, str], addressing: str
) -> None:
    """L20: segments in one piece and in parts and manifests; sizes and checksums are compared as without."""
    bucket = make_bucket(**settings, s3_addressing=addressing, s3_multipart_size="5Mi")
    small, large = SegmentKey("small", 0), SegmentKey("large", 0)
    wanted = {small: [os.urandom(1000)], large: [os.urandom(60_000) for _ in range(100)]}
    async with S3LogStore(FileLogStore(tmp_path / "logs", durability="process"), bucket) as store:
        for key, data in wanted.items():
            await append_all(store, key, [block(number, each) for number, each in enumerate(data)])
            for step in (store.seal, store.archive, store.drop):
                await step(key)
            assert await read_all(store, key) == data
        await store.write_manifest("small", {"said": "here"})
        assert await store.read_manifest("small") == {"said": "here"}
    stored = plain.list_objects_v2(Bucket=BUCKET, Prefix=bucket.config.prefix)["Contents"]
    assert len(stored) == 3
    for each in stored:
        told = plain.head_object(Bucket=BUCKET, Key=each["Key"])
        assert told["ServerSideEncryption"] == settings["s3_encryption"]
        assert told.get("SSEKMSKeyId", "").endswith(settings.get("s3_encryption_key", ""))


async def test_nothing_is_encrypted_that_was_not_to_be(plain: Any, make_bucket: Callable[..., Bucket]) -> None:
    """Without the setting it is the bucket's to say."""
    bucket = make_bucket(s3_addressing="path")
    bucket.put("plain", b"plain", zlib.crc32(b"plain"))
    told = plain.head_object(Bucket=BUCKET, Key=f"{bucket.config.prefix}plain")
    assert "ServerSideEncryption" not in told


async def test_a_key_that_is_not_there_is_told_by_its_name(
    plain: Any,  # noqa: ARG001 - the bucket must be there
    make_bucket: Callable[..., Bucket],
) -> None:
    """L20: nothing is stored unencrypted in its place, and the error is S3's own."""
    bucket = make_bucket(s3_encryption="aws:kms", s3_encryption_key="no-such-key", s3_addressing="path")
    with pytest.raises(StoreUnavailableError, match="refuses a/b"):
        bucket.put("a/b", b"secret", zlib.crc32(b"secret"))
    assert bucket.stat("a/b") is None
