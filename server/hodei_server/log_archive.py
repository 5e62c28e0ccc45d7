"""The log store in S3, put together from settings. Imported where there is a bucket only: it needs the extra `s3`."""

from __future__ import annotations

from hodei_logstore.file import FileLogStore
from hodei_logstore.s3 import Bucket, S3Config, S3LogStore
from hodei_server.lifecycle_rule import archive_prefix
from hodei_server.settings import Settings


def s3_config(settings: Settings, installation_id: str) -> S3Config:
    """Return where an installation's logs are: none looks at, or removes, what is another's."""
    return S3Config(
        bucket=settings.s3_bucket,
        prefix=archive_prefix(settings, installation_id),
        region=settings.s3_region,
        endpoint=settings.s3_endpoint,
        addressing=settings.s3_addressing,
        storage_class=settings.s3_storage_class,
        encryption=settings.s3_encryption,
        encryption_key=settings.s3_encryption_key,
        multipart_bytes=settings.s3_multipart_size,
        concurrency=settings.s3_concurrency,
        cache_bytes=settings.s3_cache,
        ahead_bytes=settings.s3_read_ahead,
        connect_timeout=settings.s3_connect_timeout,
        read_timeout=settings.s3_read_timeout,
    )


def archived_store(disk: FileLogStore, settings: Settings, installation_id: str) -> S3LogStore:
    """Return the store of disk and bucket; the bucket need not answer now."""
    return S3LogStore(disk, Bucket(s3_config(settings, installation_id)))
