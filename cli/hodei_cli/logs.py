"""`hodei logs`: read one, search one, verify them; `prune` has the commands that remove them."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import click

from hodei.quantities import parse_duration
from hodei.v1 import log_pb2 as wire
from hodei_cli.display import as_json, output_option, print_json, print_table
from hodei_cli.log_output import LogOutput, copy_log
from hodei_cli.prune import lifecycle_rule_command, prune_command
from hodei_cli.session import with_client
from hodei_client.client import Client
from hodei_client.logs import STDERR, STDOUT, LogPlace

#: Verdicts that mean that something is wrong.
_BAD = frozenset({wire.LOG_VERDICT_CORRUPT, wire.LOG_VERDICT_MISSING})


class LogsGroup(click.Group):
    """`logs JOB` prints a log; `logs COMMAND` does something else with logs. No job has a command's name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the arguments: a job's, unless the first is a command or asks for help."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; that of a job has no name of its own, which errors would tell to ask for help of."""
        name, command, rest = super().resolve_command(ctx, args)
        return "" if name == "show" else name, command, rest

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help of printing a log, then what else there is."""
        show = self.commands["show"]
        with click.Context(show, info_name=ctx.info_name, parent=ctx.parent) as inner:
            show.format_help(inner, formatter)
        rows = [(name, command.get_short_help_str(80)) for name, command in self.commands.items() if name != "show"]
        with formatter.section("Commands in place of a job"):
            formatter.write_dl(rows)


@click.group("logs", cls=LogsGroup)
def logs_command() -> None:
    """Logs."""


@logs_command.command("show")
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Wait for what is to come, until the job has ended.")
@click.option("--attempt", type=int, default=0, help="Which attempt, from 1 [the newest].")
@click.option("--tail", type=int, help="Only the last N lines of what is there.")
@click.option("--since", help="Only since then: 10m ago, or 2026-01-31T12:00:00Z.")
@click.option("--until", help="Only until then; written as --since.")
@click.option("--after-sequence", type=int, help="Only after this chunk.")
@click.option("-g", "--grep", metavar="PATTERN", help="Only lines that match; the server searches. RE2's syntax.")
@click.option("-F", "--fixed-strings", is_flag=True, help="PATTERN is text, no expression.")
@click.option("-i", "--ignore-case", is_flag=True, help="PATTERN matches capital and small letters alike.")
@click.option("--stdout", "only", flag_value="stdout", help="Only the job's standard output.")
@click.option("--stderr", "only", flag_value="stderr", help="Only its standard error.")
@click.option("--system", is_flag=True, help="What Hodei says of the attempt, too, on stderr.")
@click.option("--raw", is_flag=True, help="Escape sequences reach the terminal as they are.")
@click.option("--receipt", is_flag=True, help="Print what the log amounts to, as JSON, in place of the log.")
@click.pass_context
def show_command(ctx: click.Context, /, job: str, **options: Any) -> None:
    """Print a job's log: its stdout on stdout, its stderr on stderr, byte for byte."""
    if sum(options[name] is not None for name in ("tail", "since", "after_sequence")) > 1:
        raise click.UsageError("--tail, --since and --after-sequence exclude each other")
    if options["tail"] is not None and options["tail"] < 0:
        raise click.UsageError("--tail must not be negative")
    if options["follow"] and options["until"]:
        raise click.UsageError("--follow and --until exclude each other")
    if options["grep"] is None and (options["fixed_strings"] or options["ignore_case"]):
        raise click.UsageError("--fixed-strings and --ignore-case go with --grep")
    place = LogPlace(
        attempt=options["attempt"],
        tail=options["tail"],
        after_sequence=options["after_sequence"],
        **_moment("--since", options["since"], "ago", "since"),
        **_moment("--until", options["until"], "until_ago", "until"),
    )

    async def work(client: Client) -> None:
        if options["receipt"]:
            print_json(as_json(await client.receipt(job, attempt=options["attempt"])))
            return
        output = LogOutput(raw=options["raw"], system=options["system"])
        await copy_log(_events(client, job, place, options), output)

    with_client(ctx, work)


def _events(client: Client, job: str, place: LogPlace, options: dict[str, Any]) -> AsyncIterator[Any]:
    streams = {"stdout": [STDOUT], "stderr": [STDERR]}.get(options["only"] or "", [])
    if options["grep"] is None:
        return client.logs(job, place=place, follow=options["follow"], streams=streams)
    if not streams and not options["system"]:
        streams = [STDOUT, STDERR]
    return client.search(
        job,
        options["grep"],
        literal=options["fixed_strings"],
        ignore_case=options["ignore_case"],
        place=place,
        follow=options["follow"],
        streams=streams,
    )


def _moment(option: str, text: str | None, ago: str, at: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        return {ago: parse_duration(text.removesuffix("ago").strip())}
    except ValueError:
        pass
    try:
        return {at: dt.datetime.fromisoformat(text)}
    except ValueError:
        raise click.UsageError(f"{option}: {text!r} is no time: write 10m, 2h or 2026-01-31T12:00:00Z") from None


@logs_command.command("verify", short_help="Compare logs with their receipts.")
@click.argument("job", required=False)
@click.option("--all", "everything", is_flag=True, help="The logs of all jobs, the oldest first.")
@click.option("--tenant", default="", help="Whose, with --all.")
@output_option
@click.pass_context
def verify_command(ctx: click.Context, /, job: str | None, *, everything: bool, tenant: str, output: str) -> int:
    """Read logs wherever they lie and compare them with their receipts, segment by segment.

    Exits with 1 when a log is not what its receipt says.
    """
    if bool(job) == everything:
        raise click.UsageError("name a job, or --all")
    if tenant and not everything:
        raise click.UsageError("--tenant goes with --all")

    async def work(client: Client) -> tuple[int, list[wire.VerifyLogsResponse]]:
        count, bad = 0, []
        async for found in client.verify_logs(job or "", tenant=tenant):
            count += 1
            wrong = any(segment.verdict in _BAD for segment in found.segments)
            if wrong or job:
                bad.append(found)
        return count, bad

    count, shown = with_client(ctx, work)
    wrong = [found for found in shown if any(segment.verdict in _BAD for segment in found.segments)]
    if output == "json":
        print_json([as_json(found) for found in shown])
    else:
        if shown:
            print_table(["JOB", "ATTEMPT", "SEGMENT", "BYTES", "VERDICT", "MESSAGE"], map(_row, _checks(shown)))
        click.echo(f"{count} logs read, {len(wrong)} are not what their receipts say", err=True)
    return 1 if wrong else 0


logs_command.add_command(prune_command)
logs_command.add_command(lifecycle_rule_command)


def _checks(
    found: list[wire.VerifyLogsResponse],
) -> list[tuple[wire.VerifyLogsResponse, wire.LogSegmentCheck]]:
    return [(log, segment) for log in found for segment in log.segments]


def _row(pair: tuple[wire.VerifyLogsResponse, wire.LogSegmentCheck]) -> list[str]:
    log, segment = pair
    verdict = wire.LogVerdict.Name(segment.verdict).removeprefix("LOG_VERDICT_").lower()
    return [
        log.job_id,
        str(log.attempt_number),
        str(segment.first_sequence),
        str(segment.bytes),
        verdict,
        segment.message,
    ]
