"""Where the server's logs are archived: a bucket of the run's own, faults on the way to it, the end of its server."""

from __future__ import annotations

import asyncio
import os
import secrets
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import boto3

from hodei_faults import FaultyProxy
from hodei_faults.cluster import run_command
from hodei_faults.s3_proxy import S3Proxy

#: Commands that kill the S3 server and start it again, for a run that may do that.
STOP, START = "HODEI_TEST_S3_STOP", "HODEI_TEST_S3_START"
#: After which, by S3's clock, what nobody knows of is removed.
GRACE = "5s"


class TorturedBucket:
    """A bucket of the S3 server that AWS_ENDPOINT_URL names. An asynchronous context manager.

    The server's calls go through two proxies: `network` breaks connections, `answers` breaks what is said on them.

    :ivar name: the bucket's.
    """

    def __init__(self) -> None:
        target = urlsplit(os.environ["AWS_ENDPOINT_URL"])
        self.name = f"hodei-torture-{secrets.token_hex(6)}"
        self.network = FaultyProxy((target.hostname or "", target.port or 80))
        self.answers = S3Proxy("")
        self._client: Any = boto3.client("s3")

    @property
    def may_be_killed(self) -> bool:
        """Whether there are commands for that."""
        return {STOP, START} <= os.environ.keys()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._client.create_bucket, Bucket=self.name)
        await self.network.__aenter__()
        self.answers = S3Proxy(f"http://{self.network.address}")
        await self.answers.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bucket with all that is in it."""
        await self.answers.__aexit__(exc_type, exc, traceback)
        await self.network.__aexit__(exc_type, exc, traceback)
        await asyncio.to_thread(self._remove)

    def settings(self) -> dict[str, str]:
        """Return the server's variables."""
        return {
            "HODEI_S3_BUCKET": self.name,
            "HODEI_S3_ENDPOINT": self.answers.url,
            "HODEI_S3_ADDRESSING": "path",
            "HODEI_S3_ORPHAN_GRACE": GRACE,
            "HODEI_S3_CONNECT_TIMEOUT": "2s",
            "HODEI_S3_READ_TIMEOUT": "5s",
        }

    async def kill(self) -> None:
        """Kill the S3 server."""
        await run_command(STOP)

    async def start(self) -> None:
        """Start it again, if it was killed."""
        await asyncio.shield(asyncio.ensure_future(run_command(START)))

    def heal(self) -> None:
        """Undo whatever is wrong on the way."""
        self.network.heal()
        self.answers.heal()

    def objects(self) -> set[str]:
        """Return the names of all objects, without what stands before the log's."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        names = (each["Key"] for page in pages for each in page.get("Contents", ()))
        return {"/".join(name.split("/")[-2:]) for name in names}

    def uploads(self) -> list[str]:
        """Return the names of uploads in parts that have not ended."""
        return [each["Key"] for each in self._client.list_multipart_uploads(Bucket=self.name).get("Uploads", ())]

    def _remove(self) -> None:
        for upload in self._client.list_multipart_uploads(Bucket=self.name).get("Uploads", ()):
            self._client.abort_multipart_upload(Bucket=self.name, Key=upload["Key"], UploadId=upload["UploadId"])
        while found := self._client.list_objects_v2(Bucket=self.name).get("Contents"):
            self._client.delete_objects(Bucket=self.name, Delete={"Objects": [{"Key": each["Key"]} for each in found]})
        self._client.delete_bucket(Bucket=self.name)
