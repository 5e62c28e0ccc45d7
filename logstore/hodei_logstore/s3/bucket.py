"""What is asked of S3: plain calls that block, each bounded by timeouts, with errors of the contract."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import email.utils
import functools
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from hodei_logstore.contract import StoreUnavailableError
from hodei_logstore.s3.config import S3Config
from hodei_logstore.s3.errors import FOREIGN, is_missing, translate

T = TypeVar("T")

#: Calls are tried so often, with pauses, before they fail.
ATTEMPTS = 3
#: As many objects as S3 removes in one call.
MAX_DELETES = 1000
#: Bytes read back at a time where the store reports no checksum.
READ_BACK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """What S3 reports of an object.

    :param crc: CRC-32 of all its bytes; None where the store reports none.
    """

    size: int
    crc: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """An object of a listing, or an upload that was begun and not ended (`upload_id`).

    :param age: seconds by S3's own clock.
    """

    name: str
    age: float
    size: int = 0
    upload_id: str = ""


class Bucket:
    """One bucket. Every method blocks, may be called from any thread and raises nothing but errors of the contract.

    Names are without the prefix.

    :ivar fetched: bytes that were read from objects so far.
    :ivar requests: reads of objects so far.
    """

    def __init__(self, config: S3Config) -> None:
        self.config = config
        self.fetched = 0
        self.requests = 0
        self._lock = threading.Lock()
        self._made: Any = None
        options = {
            "StorageClass": config.storage_class,
            "ServerSideEncryption": config.encryption,
            "SSEKMSKeyId": config.encryption_key,
        }
        self._options = {name: value for name, value in options.items() if value}
        self._transfer = TransferConfig(
            multipart_threshold=config.multipart_bytes,
            multipart_chunksize=config.multipart_bytes,
            # Parts go one after the other: what is at once are objects.
            use_threads=False,
            preferred_transfer_client="classic",
        )

    def close(self) -> None:
        """Close the connections."""
        if self._made is not None:
            self._made.close()

    def reconnect(self) -> None:
        """Let the next call make a new client, with the credentials there are then; those under way end as they do."""
        self._made = None

    @property
    def _client(self) -> Any:
        """The client; made by the first call, as its credentials may not be there before, or not whole."""
        client = self._made
        if client is None:
            client = self._made = _client(self.config)
        return client

    def put(self, name: str, content: Path | bytes, crc: int) -> None:
        """Store a file or some bytes under a name; S3 compares them with their CRC-32.

        :raise FileNotFoundError: there is no such file any more.
        """
        target = {"Bucket": self.config.bucket, "Key": self.config.prefix + name}
        extra = {"ChecksumCRC32": _encode_crc(crc), **self._options}
        if isinstance(content, bytes):
            self._call(name, lambda: self._client.put_object(**target, Body=content, **extra))
        elif content.stat().st_size <= self.config.multipart_bytes:
            with content.open("rb") as file:
                self._call(name, lambda: self._client.put_object(**target, Body=file, **extra))
        else:
            for left in self.unfinished(name):
                self.abort(left)
            self._call(name, lambda: self._upload(content, target, extra))

    def _upload(self, path: Path, target: dict[str, str], extra: dict[str, str]) -> None:
        try:
            self._client.upload_file(str(path), *target.values(), ExtraArgs=extra, Config=self._transfer)
        except S3UploadFailedError as error:
            raise error.__context__ or error from None

    def stat(self, name: str) -> Stored | None:
        """Return what S3 reports of an object; None where there is none."""
        place = {"Bucket": self.config.bucket, "Key": self.config.prefix + name}
        try:
            answer = self._client.head_object(**place, ChecksumMode="ENABLED")
        except FOREIGN as error:
            if is_missing(error):
                return None
            raise translate(error, self.config.bucket, name) from error
        told = answer.get("ChecksumCRC32") if answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT" else None
        return Stored(answer["ContentLength"], _decode_crc(told) if told else None)

    def read_back(self, name: str) -> Stored:
        """Read an object whole; return what it is."""

        def run() -> Stored:
            body = self._client.get_object(Bucket=self.config.bucket, Key=self.config.prefix + name)["Body"]
            crc = size = 0
            for piece in body.iter_chunks(READ_BACK_BYTES):
                crc, size = zlib.crc32(piece, crc), size + len(piece)
            return Stored(size, crc)

        return self._call(name, run)

    def get(self, name: str, offset: int | None = None, size: int | None = None) -> tuple[bytes, int]:
        """Read an object, or some bytes of it: from an offset on, or its last ones where that is None.

        :return: the bytes, and how many the whole object has.
        """
        place: dict[str, Any] = {"Bucket": self.config.bucket, "Key": self.config.prefix + name}
        if size is not None:
            place["Range"] = f"bytes=-{size}" if offset is None else f"bytes={offset}-{offset + size - 1}"

        def run() -> tuple[bytes, int]:
            answer = self._client.get_object(**place)
            data: bytes = answer["Body"].read()
            whole = answer.get("ContentRange", "").rpartition("/")[2]
            return data, int(whole) if whole.isdigit() else len(data)

        data, whole = self._call(name, run)
        with self._lock:
            self.fetched += len(data)
            self.requests += 1
        return data, whole

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; one that is not there is fine.

        :raise StoreUnavailableError: not all of them are gone.
        """
        for start in range(0, len(names), MAX_DELETES):
            self._call(names[start], functools.partial(self._delete, names[start : start + MAX_DELETES]))

    def _delete(self, names: Sequence[str]) -> None:
        wanted = {"Objects": [{"Key": self.config.prefix + name} for name in names], "Quiet": True}
        answer = self._client.delete_objects(Bucket=self.config.bucket, Delete=wanted)
        for failed in answer.get("Errors", ()):
            raise StoreUnavailableError(
                f"S3 does not remove {failed.get('Key')} from the bucket {self.config.bucket}: "
                f"{failed.get('Code')}: {failed.get('Message')}"
            )

    def list(self, after: str = "", limit: int = 1000) -> Sequence[Listed]:
        """Return a page of the objects behind a name, in order of their names."""
        prefix = self.config.prefix

        def run() -> Sequence[Listed]:
            answer = self._client.list_objects_v2(
                Bucket=self.config.bucket, Prefix=prefix, StartAfter=prefix + after if after else "", MaxKeys=limit
            )
            now = _date_of(answer)
            return [
                Listed(each["Key"].removeprefix(prefix), (now - each["LastModified"]).total_seconds(), each["Size"])
                for each in answer.get("Contents", ())
            ]

        return self._call(prefix, run)

    def unfinished(self, name: str | None = None) -> Sequence[Listed]:
        """Return uploads in parts that were begun and not ended: of one name, or of all behind the prefix."""
        return self._call(name or self.config.prefix, lambda: list(self._unfinished(name)))

    def _unfinished(self, name: str | None) -> Iterator[Listed]:
        # Asked without a prefix: some stores answer for a whole name or for all, and never for a prefix.
        prefix = self.config.prefix
        place: dict[str, Any] = {"Bucket": self.config.bucket, "Prefix": "" if name is None else prefix + name}
        while True:
            answer = self._client.list_multipart_uploads(**place)
            now = _date_of(answer)
            for each in answer.get("Uploads", ()):
                found: str = each["Key"]
                if found.startswith(prefix) and name in {None, found.removeprefix(prefix)}:
                    age = (now - each["Initiated"]).total_seconds()
                    yield Listed(found.removeprefix(prefix), age, upload_id=each["UploadId"])
            if not answer.get("IsTruncated"):
                return
            place |= {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    def abort(self, upload: Listed) -> None:
        """Remove an upload that was not ended, with its parts; one that is gone is fine."""
        place = {"Bucket": self.config.bucket, "Key": self.config.prefix + upload.name, "UploadId": upload.upload_id}
        try:
            self._client.abort_multipart_upload(**place)
        except FOREIGN as error:
            if getattr(error, "response", {}).get("Error", {}).get("Code") != "NoSuchUpload":
                raise translate(error, self.config.bucket, upload.name) from error

    def _call(self, name: str, function: Callable[[], T]) -> T:
        try:
            return function()
        except (*FOREIGN, S3UploadFailedError) as error:
            raise translate(error, self.config.bucket, name) from error


def _client(config: S3Config) -> Any:
    # A session of its own: boto3's default one is not made for several threads.
    return boto3.session.Session().client(
        "s3",
        region_name=config.region or None,
        endpoint_url=config.endpoint or None,
        config=Config(
            connect_timeout=config.connect_timeout,
            read_timeout=config.read_timeout,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            # Both pools of threads.
            max_pool_connections=2 * config.concurrency,
            s3={"addressing_style": config.addressing},
            # Every object has a checksum that is computed here; what is read in parts has one in its own format.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _date_of(answer: dict[str, Any]) -> dt.datetime:
    """Return S3's clock, so that the age of a thing does not depend on this machine's."""
    told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return email.utils.parsedate_to_datetime(told) if told else dt.datetime.now(dt.UTC)


def _encode_crc(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def _decode_crc(text: str) -> int:
    return int.from_bytes(base64.b64decode(text), "big")
