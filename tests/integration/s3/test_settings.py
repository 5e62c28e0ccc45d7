"""Each setting of S3 does what it says, seen in the requests as they are sent or in what the server has stored."""

from __future__ import annotations

import asyncio
import os
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hodei_faults.s3_proxy import S3Proxy
from hodei_logstore.contract import SegmentKey, StoreUnavailableError
from hodei_logstore.file import FileLogStore
from hodei_logstore.s3 import Bucket, S3LogStore
from hodei_logstore.testing import append_all, block, lines, read_all
from hodei_server.log_archive import s3_config
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
DATA = b"some bytes"
CRC = zlib.crc32(DATA)


@pytest.fixture
async def proxy(s3: Any) -> AsyncIterator[S3Proxy]:  # noqa: ARG001 - there must be a server
    """Return a proxy before the real S3 server that keeps what is sent."""
    async with S3Proxy(os.environ["AWS_ENDPOINT_URL"]) as opened:
        yield opened


MakeBucket = Callable[..., Bucket]


@pytest.fixture
def make_bucket(make_settings: MakeSettings, proxy: S3Proxy) -> MakeBucket:
    """Return what makes a bucket of a server's settings; what it sends goes through the proxy."""

    def make(**settings: str) -> Bucket:
        return Bucket(s3_config(make_settings(**{"s3_endpoint": proxy.url, **settings}), "here"))

    return make


@pytest.fixture
def store_of(tmp_path: Path) -> Callable[[Bucket], S3LogStore]:
    """Return what makes a store with a bucket; it is opened by the test."""
    return lambda bucket: S3LogStore(FileLogStore(tmp_path / "logs", durability="process", small_bytes=0), bucket)


def put(bucket: Bucket, name: str = "a/b", content: bytes | Path = DATA) -> None:
    """Store some bytes."""
    bucket.put(name, content, zlib.crc32(content if isinstance(content, bytes) else content.read_bytes()))


async def test_the_prefix_stands_before_the_installation_in_every_name(
    make_bucket: MakeBucket, proxy: S3Proxy, bucket_name: str
) -> None:
    """Slashes around it do no harm."""
    await asyncio.to_thread(put, make_bucket(s3_prefix="/of/tests/"))
    await asyncio.to_thread(put, make_bucket(s3_prefix=""))
    assert [call.path for call in proxy.sent] == [
        f"/{bucket_name}/of/tests/here/a/b",
        f"/{bucket_name}/here/a/b",
    ]


async def test_a_storage_class_is_what_the_server_tells_of_the_object(
    make_bucket: MakeBucket, proxy: S3Proxy, s3: Any, bucket_name: str, tmp_path: Path
) -> None:
    """In one piece, in parts, and of bytes from memory; without the setting nothing is asked for."""
    large = tmp_path / "large"
    large.write_bytes(os.urandom(6 << 20))
    bucket = make_bucket(s3_storage_class="REDUCED_REDUNDANCY", s3_multipart_size="5Mi")
    for name, content in (("bytes", DATA), ("parts", large)):
        await asyncio.to_thread(put, bucket, name, content)
        place = {"Bucket": bucket_name, "Key": bucket.config.prefix + name}
        assert s3.head_object(**place)["StorageClass"] == "REDUCED_REDUNDANCY"
    plain = make_bucket()
    await asyncio.to_thread(put, plain, "plain")
    assert "StorageClass" not in s3.head_object(Bucket=bucket_name, Key=plain.config.prefix + "plain")
    assert "x-amz-storage-class" not in proxy.sent[-1].headers


async def test_what_this_server_does_not_know_is_sent_and_its_refusal_told(
    make_bucket: MakeBucket, proxy: S3Proxy
) -> None:
    """Classes and keys of AWS's own: the headers are right, and the error is S3's."""
    proxy.error = ("InvalidRequest", 400)
    bucket = make_bucket(s3_storage_class="STANDARD_IA", s3_encryption="aws:kms", s3_encryption_key="of/ours")
    with pytest.raises(StoreUnavailableError, match="InvalidRequest: said by a test"):
        await asyncio.to_thread(put, bucket)
    sent = proxy.sent[0].headers
    assert sent["x-amz-storage-class"] == "STANDARD_IA"
    assert sent["x-amz-server-side-encryption"] == "aws:kms"
    assert sent["x-amz-server-side-encryption-aws-kms-key-id"] == "of/ours"


async def test_a_region_is_what_requests_are_signed_for(make_bucket: MakeBucket, proxy: S3Proxy) -> None:
    """By AWS's own settings without it."""
    proxy.error = ("AccessDenied", 403)
    for settings in ({"s3_region": "eu-central-1"}, {}):
        with pytest.raises(StoreUnavailableError, match="refuses the credentials"):
            await asyncio.to_thread(put, make_bucket(**settings))
    scopes = [call.headers["authorization"].split("/")[2] for call in proxy.sent]
    assert scopes == ["eu-central-1", os.environ["AWS_DEFAULT_REGION"]]


@pytest.mark.parametrize("addressing", ["path", "virtual"])
async def test_the_buckets_name_stands_where_addressing_says(
    make_bucket: MakeBucket, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch, addressing: str
) -> None:
    """In the path, or in the host's name."""
    found = socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **more: Any) -> Any:
        return found("127.0.0.1" if host.endswith("localhost") else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    proxy.error = ("AccessDenied", 403)
    bucket = make_bucket(s3_endpoint=f"http://localhost:{proxy.port}", s3_addressing=addressing)
    with pytest.raises(StoreUnavailableError):
        await asyncio.to_thread(put, bucket)
    (sent,) = proxy.sent
    host, path = f"localhost:{proxy.port}", f"/{bucket.config.prefix}a/b"
    name = bucket.config.bucket
    expected = {"virtual": (f"{name}.{host}", path), "path": (host, f"/{name}{path}")}
    assert (sent.headers["host"], sent.path) == expected[addressing]


async def test_what_is_larger_than_a_part_goes_in_parts_of_that_size(
    make_bucket: MakeBucket, proxy: S3Proxy, tmp_path: Path
) -> None:
    """The last one is what is left; what fits into one part goes whole."""
    fits, large = tmp_path / "fits", tmp_path / "large"
    fits.write_bytes(os.urandom(6 << 20))
    large.write_bytes(os.urandom(13 << 20))
    bucket = make_bucket(s3_multipart_size="6Mi")
    for path in (fits, large):
        await asyncio.to_thread(put, bucket, path.name, path)
    sizes = [call.size for call in proxy.sent if call.method == "PUT"]
    assert sizes == [6 << 20, 6 << 20, 6 << 20, 1 << 20]
    assert [("uploadId" in call.query) for call in proxy.sent if call.method == "PUT"] == [False, True, True, True]


async def held(proxy: S3Proxy, wanted: int) -> None:
    """Wait until so many calls wait at the gate."""
    async with asyncio.timeout(60):
        while proxy.busy < wanted:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_so_many_calls_are_under_way_and_no_more(
    make_bucket: MakeBucket, store_of: Callable[[Bucket], S3LogStore], proxy: S3Proxy, concurrency: int
) -> None:
    """For storing, parts of large objects included, and for reading, what is fetched ahead included."""
    bucket = make_bucket(s3_concurrency=str(concurrency), s3_multipart_size="5Mi", s3_read_timeout="30s")
    keys = [SegmentKey(f"log{number}", 0) for number in range(6)]
    async with store_of(bucket) as store:
        for key in keys:
            await append_all(store, key, [block(number, os.urandom(60_000)) for number in range(200)])
            await store.seal(key)
        proxy.gate.clear()
        storing = asyncio.gather(*(store.archive(key) for key in keys))
        await held(proxy, concurrency)
        proxy.gate.set()
        await storing
        assert proxy.busiest == concurrency
        for key in keys:
            await store.drop(key)
        proxy.gate.clear()
        reading = asyncio.gather(*(read_all(store, key) for key in keys))
        await held(proxy, concurrency)
        proxy.gate.set()
        assert all(len(found) == 200 for found in await reading)
        assert proxy.busiest == concurrency


async def test_a_connection_that_does_not_come_is_given_up(make_bucket: MakeBucket) -> None:
    """After the connection's timeout, whatever the other one is: nobody takes connections from this queue."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.settimeout(0)
            each.connect_ex(("127.0.0.1", port))
        bucket = make_bucket(s3_endpoint=f"http://127.0.0.1:{port}", s3_connect_timeout="100ms", s3_read_timeout="1h")
        with pytest.raises(StoreUnavailableError, match="Connect timeout"):
            await asyncio.to_thread(put, bucket)
        for each in waiting:
            each.close()


async def test_an_answer_that_does_not_come_is_given_up(make_bucket: MakeBucket, proxy: S3Proxy) -> None:
    """L20: after the silence that is allowed in a call, whatever the other timeout is."""
    bucket = make_bucket(s3_connect_timeout="1h", s3_read_timeout="100ms")
    proxy.gate.clear()
    with pytest.raises(StoreUnavailableError, match="Read timeout"):
        await asyncio.to_thread(put, bucket)
    proxy.gate.set()


async def test_credentials_come_by_the_usual_chain(
    make_bucket: MakeBucket, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A profile of the shared file, where the environment names none."""
    file = tmp_path / "credentials"
    file.write_text("[archive]\naws_access_key_id = of-a-file\naws_secret_access_key = secret\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "archive")
    proxy.error = ("AccessDenied", 403)
    with pytest.raises(StoreUnavailableError, match="refuses the credentials"):
        await asyncio.to_thread(put, make_bucket())
    assert "Credential=of-a-file/" in proxy.sent[0].headers["authorization"]


async def test_lines_are_read_back_whatever_the_settings(
    make_bucket: MakeBucket, store_of: Callable[[Bucket], S3LogStore]
) -> None:
    """All of those that this server knows, together."""
    bucket = make_bucket(s3_storage_class="REDUCED_REDUNDANCY", s3_concurrency="1", s3_prefix="x/y")
    key = SegmentKey("log", 0)
    async with store_of(bucket) as store:
        await append_all(store, key, lines(50))
        for step in (store.seal, store.archive, store.drop):
            await step(key)
        assert len(await read_all(store, key)) == 50
