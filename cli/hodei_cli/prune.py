"""`hodei logs prune` and `hodei logs lifecycle-rule`: what has had its time goes."""

from __future__ import annotations

from typing import Any

import click

from hodei.v1 import log_pb2 as wire
from hodei_cli.display import as_json, output_option, print_json, print_table
from hodei_cli.session import with_client
from hodei_cli.values import DURATION
from hodei_client.client import Client

_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@click.command("prune", short_help="Remove what has expired, at once.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; tell what would go.")
@output_option
@click.pass_context
def prune_command(ctx: click.Context, /, *, dry_run: bool, output: str) -> int:
    """Remove what has expired now, of all tenants: logs, and jobs whose own time has passed.

    The server does that by itself every HODEI_RETENTION_INTERVAL. Exits with 1 when S3 does not let go of some; they
    go later.
    """
    if dry_run:
        summary = with_client(ctx, _expired)
        if output == "json":
            print_json(_numbers(summary))
        else:
            _print_summary(summary)
        return 0
    removed = with_client(ctx, lambda client: _remove(client, quiet=output == "json"))
    if output == "json":
        print_json(_numbers(removed))
    else:
        click.echo(_sentence(removed))
    if removed.s3_error:
        click.echo(f"hodei: some of it stays in S3 until later: {removed.s3_error}", err=True)
    return 1 if removed.s3_error else 0


async def _expired(client: Client) -> wire.ExpiredSummary:
    summary = wire.ExpiredSummary()
    async for response in client.prune_logs(dry_run=True):
        summary = response.expired
    return summary


async def _remove(client: Client, *, quiet: bool) -> wire.RemovedLogs:
    removed = wire.RemovedLogs()
    async for response in client.prune_logs():
        removed = response.removed
        if not (quiet or removed.done):
            click.echo(f"hodei: {_sentence(removed)} so far", err=True)
    return removed


def _print_summary(summary: wire.ExpiredSummary) -> None:
    rows = [
        [
            group.tenant,
            group.day.ToJsonString()[:10] if group.HasField("day") else "before",
            str(group.jobs),
            str(group.logs),
            str(group.segments),
            _size(group.disk_bytes),
            _size(group.s3_bytes),
        ]
        for group in summary.groups
    ]
    if rows:
        print_table(["TENANT", "EXPIRED", "JOBS", "LOGS", "SEGMENTS", "DISK", "S3"], rows)
    total = [sum(getattr(group, name) for group in summary.groups) for name in ("logs", "disk_bytes", "s3_bytes")]
    click.echo(
        f"{total[0]} logs would go, {_size(total[1])} on disk and {_size(total[2])} in S3; "
        f"and {summary.jobs} jobs, with all that is known of them",
        err=True,
    )


def _sentence(removed: wire.RemovedLogs) -> str:
    return (
        f"removed the logs of {removed.jobs_with_logs} jobs, {removed.segments} segments, "
        f"{_size(removed.disk_bytes)} on disk and {_size(removed.s3_bytes)} in S3, and {removed.jobs} jobs"
    )


def _size(size: int) -> str:
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"


def _numbers(message: wire.ExpiredSummary | wire.RemovedLogs) -> dict[str, Any]:
    """Return a message as JSON with every figure in it, 0 as well, as numbers."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.name == "groups":
            value = [_group(group) for group in value]
        found[field.name] = value
    return found


def _group(group: wire.ExpiredLogs) -> dict[str, Any]:
    figures = {name: getattr(group, name) for name in ("jobs", "logs", "segments", "disk_bytes", "s3_bytes")}
    day = as_json(group).get("day")
    return {"tenant": group.tenant, "day": day[:10] if day else None, **figures}


@click.command("lifecycle-rule", short_help="Print a rule for the bucket to remove old logs.")
@click.option(
    "--margin",
    type=DURATION,
    default=30 * 86400.0,
    show_default="30d",
    help="Added to the longest time to live there may be: as long as jobs run, and as the server may be away.",
)
@click.option(
    "--uploads",
    type=DURATION,
    default=7 * 86400.0,
    show_default="7d",
    help="Uploads in parts that nobody has ended are given up after so long.",
)
def lifecycle_rule_command(margin: float, uploads: float) -> None:
    """Print a rule by which the bucket removes what the server should have removed long before.

    A second net, for 'aws s3api put-bucket-lifecycle-configuration --bucket BUCKET --lifecycle-configuration
    file://RULE'; that replaces the rules the bucket has. Reads the server's settings (HODEI_S3_PREFIX, HODEI_LOG_TTL)
    and its database.
    """
    from hodei_cli.server import open_database  # noqa: PLC0415 - needs the extra "server"
    from hodei_server.installation import known_installation  # noqa: PLC0415 - the same
    from hodei_server.lifecycle_rule import lifecycle_rule  # noqa: PLC0415 - the same
    from hodei_server.settings import load_settings  # noqa: PLC0415 - the same

    settings = load_settings()
    if not settings.s3_bucket:
        raise click.ClickException("HODEI_S3_BUCKET names no bucket")
    installation_id = known_installation(open_database())
    if not installation_id:
        raise click.ClickException("the database belongs to no installation yet: start the server once")
    print_json(lifecycle_rule(settings, installation_id, margin=margin, uploads=uploads))
