"""Keeps logs in S3: they grow on the local disk, and go to a bucket once they are sealed. Needs the extra `s3`."""

from hodei_logstore.s3.bucket import Bucket, Listed
from hodei_logstore.s3.config import S3Config
from hodei_logstore.s3.store import S3LogStore
from hodei_logstore.s3.uploads import Archived

__all__ = ["Archived", "Bucket", "Listed", "S3Config", "S3LogStore"]
