"""Settings of logs: how much is kept of each, where, and for how long; and who may follow them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from hodei.quantities import parse_duration
from hodei_server.settings.values import Duration, SettingsGroup, Size, by_tenant


class LogGroup(SettingsGroup):
    """What is kept of logs, and of ended jobs."""

    title: ClassVar[str] = "Logs"

    log_budget: Size = Field(
        1 << 30, ge=1 << 16, description="Bytes of log kept per attempt where the job does not say."
    )
    log_segment: Size = Field(64 << 20, ge=1 << 16, description="Bytes of log per segment.")
    log_segment_age: Duration = Field(
        600.0, gt=0, description="With `s3_bucket`: a segment of a running job ends when it is older, and goes to S3."
    )
    log_pending: Size = Field(
        16 << 20, ge=1 << 20, description="Bytes of a log that may wait in memory to be durable; then its worker waits."
    )
    log_recent: Size = Field(
        2 << 20, ge=0, description="Bytes of a log's durable end kept in memory; slower followers read the store."
    )
    log_memory: Size = Field(
        256 << 20, ge=1 << 20, description="Bytes of both, for all logs together, and one block a log beyond it."
    )
    log_wait: Duration = Field(60.0, description="How long an ended attempt waits for the rest of its log.")
    log_ttl: Duration = Field(
        7 * 86400.0, description="How long logs are kept after a job's end where it does not say."
    )
    log_ttl_tenants: str = Field("", description="The same for some tenants, a list of `tenant=duration`.")
    job_ttl: Duration = Field(
        90 * 86400.0, description="How long an ended job is kept after its end, and never less than its logs."
    )
    log_orphan_grace: Duration = Field(
        7 * 86400.0,
        gt=0,
        description="How long logs stay on the disk that a restored database does not know; each server counts anew.",
    )
    retention_interval: Duration = Field(60.0, gt=0, description="Between looks for logs to remove.")
    max_follows: int = Field(10_000, ge=1, description="Log streams at once.")
    max_follows_per_job: int = Field(2000, ge=1, description="Log streams of one job at once.")
    max_follows_per_client: int = Field(5000, ge=1, description="Log streams of one client's address at once.")
    log_compression: bool = Field(default=False, description="Compress log streams to other machines (gzip).")

    @field_validator("log_ttl_tenants")
    @classmethod
    def _check_tenants(cls, value: str) -> str:
        by_tenant(value, parse_duration)
        return value

    @property
    def log_ttl_of_tenants(self) -> dict[str, float]:
        """How long logs of some tenants are kept, in seconds."""
        return by_tenant(self.log_ttl_tenants, parse_duration)
