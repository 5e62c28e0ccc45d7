"""`hodei logs`."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from hodei.quantities import parse_duration
from hodei_cli.display import as_json, print_json
from hodei_cli.log_output import LogOutput, copy_log
from hodei_cli.session import with_client
from hodei_client.client import Client
from hodei_client.logs import STDERR, STDOUT, LogPlace


@click.command("logs")
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Wait for what is to come, until the job has ended.")
@click.option("--attempt", type=int, default=0, help="Which attempt, from 1 [the newest].")
@click.option("--tail", type=int, help="Only the last N lines of what is there.")
@click.option("--since", help="Only since then: 10m ago, or 2026-01-31T12:00:00Z.")
@click.option("--after-sequence", type=int, help="Only after this chunk.")
@click.option("--stdout", "only", flag_value="stdout", help="Only the job's standard output.")
@click.option("--stderr", "only", flag_value="stderr", help="Only its standard error.")
@click.option("--system", is_flag=True, help="What Hodei says of the attempt, too, on stderr.")
@click.option("--raw", is_flag=True, help="Escape sequences reach the terminal as they are.")
@click.option("--receipt", is_flag=True, help="Print what the log amounts to, as JSON, in place of the log.")
@click.pass_context
def logs_command(ctx: click.Context, /, job: str, **options: Any) -> None:
    """Print a job's log: its stdout on stdout, its stderr on stderr, byte for byte."""
    if sum(options[name] is not None for name in ("tail", "since", "after_sequence")) > 1:
        raise click.UsageError("--tail, --since and --after-sequence exclude each other")
    if options["tail"] is not None and options["tail"] < 0:
        raise click.UsageError("--tail is not negative")
    place = LogPlace(
        attempt=options["attempt"],
        tail=options["tail"],
        after_sequence=options["after_sequence"],
        **_since(options["since"]),
    )
    streams = {"stdout": [STDOUT], "stderr": [STDERR]}.get(options["only"] or "", [])

    async def work(client: Client) -> None:
        if options["receipt"]:
            print_json(as_json(await client.receipt(job, attempt=options["attempt"])))
            return
        events = client.logs(job, place=place, follow=options["follow"], streams=streams)
        await copy_log(events, LogOutput(raw=options["raw"], system=options["system"]))

    with_client(ctx, work)


def _since(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        return {"ago": parse_duration(text.removesuffix("ago").strip())}
    except ValueError:
        pass
    try:
        return {"since": dt.datetime.fromisoformat(text)}
    except ValueError:
        raise click.UsageError(f"--since: {text!r} is no time: write 10m, 2h or 2026-01-31T12:00:00Z") from None
