"""What boto3 raises, as the contract of log stores knows it."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from hodei_logstore.contract import LogStoreError, SegmentNotFoundError, StoreUnavailableError

#: The last is how botocore tells of credentials that have expired and could not be had anew.
FOREIGN = (BotoCoreError, ClientError, RuntimeError)

_MISSING = frozenset({"NoSuchKey", "404"})
_REFUSED = frozenset(
    {"403", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
)


def is_missing(error: Exception) -> bool:
    """Whether S3 has answered that there is no such object."""
    return isinstance(error, ClientError) and _code(error) in _MISSING


def translate(error: Exception, bucket: str, name: str) -> LogStoreError:
    """Return an error of boto3 as the contract knows it, with what may be done about it."""
    if is_missing(error):
        return SegmentNotFoundError(f"there is no object {name} in the bucket {bucket}")
    if isinstance(error, ClientError):
        details: dict[str, Any] = error.response.get("Error", {})
        code, said = _code(error), str(details.get("Message") or error)
        if code == "NoSuchBucket":
            return StoreUnavailableError(f"there is no bucket {bucket}: make it, or set HODEI_S3_BUCKET")
        if code == "RequestTimeTooSkewed":
            return StoreUnavailableError(f"S3's clock and this machine's are apart: set this machine's ({said})")
        if code in _REFUSED:
            return StoreUnavailableError(f"S3 refuses the credentials for the bucket {bucket}: {code}: {said}")
        return StoreUnavailableError(f"S3 refuses {name} in the bucket {bucket}: {code}: {said}")
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return StoreUnavailableError(f"there are no credentials for the bucket {bucket}: {error}")
    return StoreUnavailableError(f"S3 can't be reached for the bucket {bucket}: {error}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
