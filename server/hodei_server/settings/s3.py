"""Settings of the bucket for sealed segments of logs."""

from __future__ import annotations

import re
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from hodei_server.settings.values import PREFIX, Duration, SettingsGroup, Size


class S3Group(SettingsGroup):
    """Where sealed segments go, if anywhere."""

    title: ClassVar[str] = "Logs in S3"

    s3_bucket: str = Field("", description="Sealed segments of logs go there and leave the disk; nowhere when empty.")
    s3_prefix: str = Field("", description="Stands before every name in the bucket, and before the installation's id.")
    s3_region: str = Field("", description="By AWS's own settings when empty, as `s3_endpoint`.")
    s3_endpoint: str = Field("", description="URL of a server that speaks S3.")
    s3_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="Whether the bucket's name stands in the path or in the host's name."
    )
    s3_storage_class: str = Field("", description="`STANDARD_IA`, …; the bucket's default when empty.")
    s3_encryption: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = Field(
        "", description="Server-side encryption; the bucket's default when empty."
    )
    s3_encryption_key: str = Field("", description="Id of the KMS key; AWS's own when empty.")
    s3_multipart_size: Size = Field(
        64 << 20, ge=5 << 20, le=5 << 30, description="Larger objects go in parts of so many bytes."
    )
    s3_concurrency: int = Field(8, ge=1, le=100, description="Calls at once, for storing and for reading each.")
    s3_cache: Size = Field(
        64 << 20,
        ge=16 << 20,
        description="Bytes of compressed log from S3 that are kept for those who read on.",
    )
    s3_read_ahead: Size = Field(
        64 << 20, ge=0, description="Bytes of log that are read from S3 before readers have come to them."
    )
    s3_orphan_grace: Duration = Field(
        86400.0, gt=0, description="Objects that no log has, and uploads in parts that nobody ended, go after so long."
    )
    s3_connect_timeout: Duration = Field(5.0, gt=0, description="Until a connection is there.")
    s3_read_timeout: Duration = Field(30.0, gt=0, description="Of silence in a call.")

    @field_validator("s3_endpoint")
    @classmethod
    def _check_endpoint(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^/]+/?", value):
            raise ValueError("is a URL: https://host or http://host:port")
        return value

    @model_validator(mode="after")
    def _check_key(self) -> Self:
        if self.s3_encryption_key and not self.s3_encryption.startswith("aws:kms"):
            raise ValueError(f"{PREFIX}S3_ENCRYPTION_KEY needs {PREFIX}S3_ENCRYPTION=aws:kms")
        return self
