"""What a bucket's store is told."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, slots=True)
class S3Config:
    """Where a bucket is and how it is spoken to. Credentials come by boto3's usual chain.

    :param prefix: stands before every name; ends with a slash unless empty.
    :param endpoint: a URL; empty for what AWS's own settings say.
    :param storage_class: of what is stored; empty for the bucket's default, as `encryption`.
    :param encryption: `AES256`, `aws:kms` or `aws:kms:dsse`.
    :param multipart_bytes: larger objects go in parts of so many bytes.
    :param concurrency: calls at once, for storing and for reading each.
    :param cache_bytes: of compressed log that was read and may be wanted soon, of all readers together.
    :param ahead_bytes: of log that is read before its readers have come to it, of all readers together.
    :param connect_timeout: seconds, as `read_timeout`.
    """

    bucket: str
    prefix: str = ""
    region: str = ""
    endpoint: str = ""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    storage_class: str = ""
    encryption: str = ""
    encryption_key: str = ""
    multipart_bytes: int = 64 << 20
    concurrency: int = 8
    cache_bytes: int = 64 << 20
    ahead_bytes: int = 64 << 20
    connect_timeout: float = 5.0
    read_timeout: float = 30.0
