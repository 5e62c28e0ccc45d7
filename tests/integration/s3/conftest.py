"""A real S3 server, where AWS_ENDPOINT_URL names one: skipped without it on a laptop, failed in CI."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from hodei_faults.needs import lacks
from hodei_faults.servers import settings_in
from hodei_logstore.file import FileLogStore
from hodei_logstore.s3 import Bucket, S3Config, S3LogStore
from hodei_server.settings import Settings


@pytest.fixture(scope="session")
def s3() -> Any:
    """Return boto3's own client, for what tests do behind the store's back."""
    if not os.environ.get("AWS_ENDPOINT_URL"):
        lacks("no S3 server (AWS_ENDPOINT_URL)")
    return boto3.client("s3")


@pytest.fixture
def bucket_name(s3: Any) -> Iterator[str]:
    """Return a bucket of the test's own, empty."""
    name = f"hodei-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=name)
    yield name
    empty(s3, name)
    s3.delete_bucket(Bucket=name)


def empty(s3: Any, name: str) -> None:
    """Remove all that is in a bucket."""
    for upload in s3.list_multipart_uploads(Bucket=name).get("Uploads", ()):
        s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    while found := s3.list_objects_v2(Bucket=name).get("Contents"):
        s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": each["Key"]} for each in found]})


@pytest.fixture
def config(bucket_name: str) -> S3Config:
    """Return settings of the test's bucket; addressed by path, as its server has no names of buckets."""
    return S3Config(bucket_name, "logs/here/", addressing="path", connect_timeout=30.0, read_timeout=30.0)


@pytest.fixture
async def store(config: S3Config, tmp_path: Path) -> AsyncIterator[S3LogStore]:
    """Return an empty store; the smallest segment is compressed, too."""
    async with S3LogStore(FileLogStore(tmp_path / "logs", durability="process", small_bytes=0), Bucket(config)) as it:
        yield it


MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(tmp_path: Path, bucket_name: str) -> MakeSettings:
    """Return what makes settings for a server with its data in this test's folder and its logs in the test's bucket."""

    def make(**overrides: str) -> Settings:
        own = {
            "retention_interval": "100ms",
            "s3_orphan_grace": "1s",
            "s3_bucket": bucket_name,
            "s3_prefix": "of/tests",
            "s3_addressing": "path",
            # A busy machine's S3 server takes its time for what it makes durable; a test of silence sets its own.
            "s3_connect_timeout": "30s",
            "s3_read_timeout": "30s",
        }
        return settings_in(tmp_path / "data", **(own | overrides))

    return make
