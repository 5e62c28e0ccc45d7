"""The rule that is printed for a bucket, given to a real one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hodei_server.app import Server
from hodei_server.settings import Settings

HODEI = str(Path(sys.executable).with_name("hodei"))


async def test_a_bucket_takes_the_rule_and_tells_the_same(
    make_settings: Callable[..., Settings], s3: Any, bucket_name: str
) -> None:
    """L22: as `aws s3api put-bucket-lifecycle-configuration` would give it, for this installation's names alone."""
    settings = make_settings()
    async with Server(settings, ephemeral=True):
        pass
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
    environment = kept | {
        "HODEI_DATA_DIR": str(settings.data_dir),
        "HODEI_S3_BUCKET": bucket_name,
        "HODEI_S3_PREFIX": settings.s3_prefix,
    }
    process = await asyncio.create_subprocess_exec(
        HODEI, "logs", "lifecycle-rule", "--margin", "10d", env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    rule = json.loads(out)
    installation_id = (settings.data_dir / "installation").read_text().strip()
    assert rule["Rules"][0]["Filter"]["Prefix"] == f"of/tests/{installation_id}/"
    assert rule["Rules"][0]["Expiration"]["Days"] == 375

    s3.put_bucket_lifecycle_configuration(Bucket=bucket_name, LifecycleConfiguration=rule)
    told = s3.get_bucket_lifecycle_configuration(Bucket=bucket_name)["Rules"]
    [wanted] = rule["Rules"]
    [found] = told
    assert found.items() >= {name: wanted[name] for name in ("ID", "Status", "Filter", "Expiration")}.items()
