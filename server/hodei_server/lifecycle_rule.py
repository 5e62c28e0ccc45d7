"""A second net under the removal of logs from S3: what the bucket removes by itself, should nobody else do it."""

from __future__ import annotations

import math
from typing import Any

from hodei_server.domain.spec import MAX_SECONDS
from hodei_server.settings import Settings

DAY = 86400.0


def archive_prefix(settings: Settings, installation_id: str) -> str:
    """Return what stands before the names of all that an installation has in its bucket."""
    prefix = settings.s3_prefix.strip("/")
    return f"{prefix}/{installation_id}/" if prefix else f"{installation_id}/"


def lifecycle_rule(settings: Settings, installation_id: str, *, margin: float, uploads: float) -> dict[str, Any]:
    """Return a lifecycle configuration, as ``aws s3api put-bucket-lifecycle-configuration`` takes it.

    An object's days count from its upload, a log's time to live from its job's end. So the rule's are those of the
    longest time to live there may be (a job's own may be 365 days, whatever the settings say) and the margin.

    :param margin: seconds from the upload of a job's first segment to its end, and until retention has come round.
    :param uploads: seconds after which an upload in parts that was not ended is given up.
    """
    longest = max(MAX_SECONDS, settings.log_ttl, *settings.log_ttl_of_tenants.values())
    return {
        "Rules": [
            {
                "ID": f"hodei-logs-{installation_id}",
                "Status": "Enabled",
                "Filter": {"Prefix": archive_prefix(settings, installation_id)},
                "Expiration": {"Days": math.ceil((longest + margin) / DAY)},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": max(math.ceil(uploads / DAY), 1)},
            }
        ]
    }
