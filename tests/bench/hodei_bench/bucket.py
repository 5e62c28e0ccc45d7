"""A bucket of a bench's own on the S3 server that AWS_ENDPOINT_URL names, and what boto3 alone does with it."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import zstandard
from botocore.config import Config

from hodei_logstore.s3.bucket import MAX_DELETES

#: Calls at once: HODEI_S3_CONCURRENCY's default, and the peer's.
AT_ONCE = 8
#: How segments are compressed.
LEVEL = 3


def is_missing(bench: str) -> bool:
    """Say that a bench is left out where no S3 server is named; in CI it must be there."""
    if os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("CI"):
        return False
    sys.stderr.write(f"{bench}: left out: AWS_ENDPOINT_URL names no S3 server\n")
    return True


class PlainBucket:
    """boto3's own client with a bucket, with nothing around it.

    :ivar name: of the bucket.
    """

    def __init__(self) -> None:
        config = Config(max_pool_connections=2 * AT_ONCE, s3={"addressing_style": "path"})
        self.client: Any = boto3.session.Session().client("s3", config=config)
        self.name = f"hodei-bench-{secrets.token_hex(6)}"

    def settings(self) -> dict[str, str]:
        """Return what a server needs to keep its logs there."""
        return {"s3_bucket": self.name, "s3_addressing": "path"}

    def put(self, files: Sequence[Path]) -> float:
        """Store files, several at once; return seconds."""

        def one(file: Path) -> None:
            with file.open("rb") as content:
                self.client.put_object(Bucket=self.name, Key=f"plain/{file.name}", Body=content)

        began = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(one, files))
        return time.perf_counter() - began

    def put_compressed(self, file: Path, piece: int) -> list[str]:
        """Store a file in pieces, each compressed by itself; return their names."""
        names: list[str] = []
        with file.open("rb") as content:
            while data := content.read(piece):
                names.append(f"compressed/{len(names):04}")
                body = zstandard.ZstdCompressor(level=LEVEL).compress(data)
                self.client.put_object(Bucket=self.name, Key=names[-1], Body=body)
        return names

    def get_compressed(self, names: Sequence[str]) -> tuple[float, int]:
        """Get objects one after the other and unpack each; return seconds and bytes."""
        began, size = time.perf_counter(), 0
        for name in names:
            data = self.client.get_object(Bucket=self.name, Key=name)["Body"].read()
            size += len(zstandard.ZstdDecompressor().decompress(data))
        return time.perf_counter() - began, size

    def copy(self, name: str, names: Sequence[str]) -> Sequence[str]:
        """Store what an object holds under other names, several at once; return these."""
        content = self.client.get_object(Bucket=self.name, Key=name)["Body"].read()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda each: self.client.put_object(Bucket=self.name, Key=each, Body=content), names))
        return names

    def names(self) -> Iterator[str]:
        """Yield the names of all objects, in order."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name):
            for each in page.get("Contents", ()):
                yield each["Key"]

    def delete(self, names: Sequence[str]) -> float:
        """Remove objects, as many in a call as S3 takes; return seconds."""
        began = time.perf_counter()
        for start in range(0, len(names), MAX_DELETES):
            keys = [{"Key": name} for name in names[start : start + MAX_DELETES]]
            self.client.delete_objects(Bucket=self.name, Delete={"Objects": keys, "Quiet": True})
        return time.perf_counter() - began

    def clear(self) -> None:
        """Remove all that is in it."""
        self.delete(list(self.names()))


@contextlib.contextmanager
def plain_bucket() -> Iterator[PlainBucket]:
    """Make a bucket; it goes at the end with all that is in it."""
    bucket = PlainBucket()
    bucket.client.create_bucket(Bucket=bucket.name)
    try:
        yield bucket
    finally:
        bucket.clear()
        bucket.client.delete_bucket(Bucket=bucket.name)
