"""Commands about jobs that exist."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click

from hodei.v1 import job_pb2
from hodei.v1 import types_pb2 as wire
from hodei_cli.commands import EXIT_HODEI
from hodei_cli.display import (
    as_json,
    cause_name,
    command_of,
    exit_code_of,
    lasted,
    output_option,
    plain,
    print_json,
    print_json_line,
    print_table,
    state_name,
    when,
)
from hodei_cli.place import print_verdicts
from hodei_cli.secret_options import read_secrets, secret_options
from hodei_cli.session import with_client
from hodei_cli.values import DURATION, PAIR
from hodei_client.client import Client
from hodei_client.errors import HodeiError, UnavailableError

_STATES = [name.removeprefix("JOB_STATE_").lower() for name in wire.JobState.keys()[1:]]


def read_state(text: str) -> wire.JobState.ValueType:
    """Return a state that was written by a person."""
    if text.lower() not in _STATES:
        near = difflib.get_close_matches(text.lower(), _STATES, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_STATES)}"
        raise click.UsageError(f"--state: there is no state {text!r}; {hint}")
    return wire.JobState.Value(f"JOB_STATE_{text.upper()}")


@click.command("list")
@click.option(
    "--state", "states", multiple=True, metavar="STATE", help=f"Only in this state; repeatable: {', '.join(_STATES)}."
)
@click.option("--name", default="", help="The whole name, or its beginning followed by *.")
@click.option("--label", "labels", type=PAIR, multiple=True, help="With this label; repeatable.")
@click.option("--provider", default="", help="With an attempt on this provider.")
@click.option("--tenant", metavar="NAME", default="", help="Whose [HODEI_TENANT, default].")
@click.option("--since", type=DURATION, help="Submitted not longer ago than this.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@output_option
@click.pass_context
def list_command(ctx: click.Context, /, **options: Any) -> None:
    """List jobs, the newest first."""
    request = job_pb2.ListJobsRequest(
        states=[read_state(text) for text in options["states"]],
        name=options["name"],
        labels=dict(options["labels"]),
        provider=options["provider"],
        tenant=options["tenant"],
        page_size=min(options["limit"], 1000),
    )
    if options["since"] is not None:
        request.submitted_after.GetCurrentTime()
        request.submitted_after.FromNanoseconds(
            request.submitted_after.ToNanoseconds() - round(options["since"] * 1_000_000_000)
        )

    async def work(client: Client) -> list[wire.Job]:
        found: list[wire.Job] = []
        async for job in client.list(request):
            found.append(job)
            if len(found) >= options["limit"]:
                break
        return found

    jobs = with_client(ctx, work)
    if options["output"] == "json":
        print_json([as_json(job) for job in jobs])
        return
    print_table(
        ("JOB", "NAME", "STATE", "SUBMITTED", "RAN", "COMMAND"),
        [
            (job.job_id, job.spec.name, state_name(job.state), when(job.submit_time), lasted(job), command_of(job.spec))
            for job in jobs
        ],
    )


@click.command("get")
@click.argument("job")
@output_option
@click.pass_context
def get_command(ctx: click.Context, /, job: str, output: str) -> None:
    """Show a job and its attempts."""
    found = with_client(ctx, lambda client: client.get(job))
    if output == "json":
        print_json(as_json(found))
        return
    rows = [
        ("job", found.job_id),
        ("name", found.spec.name),
        ("state", state_name(found.state)),
        ("reason", found.reason),
        ("command", command_of(found.spec)),
        ("secrets", ", ".join(secret.name for secret in found.spec.secrets)),
        ("submitted", f"{when(found.submit_time)} by {found.principal}"),
        ("started", when(found.start_time)),
        ("ended", when(found.end_time)),
        ("retry of", found.retry_of),
        ("trace", found.traceparent),
    ]
    for name, value in rows:
        if value:
            click.echo(f"{name + ':':<11}{plain(value)}")
    if found.attempts:
        click.echo()
        print_table(
            ("ATTEMPT", "STATE", "PROVIDER", "WORKER", "STARTED", "OUTCOME"),
            [
                (
                    str(attempt.number),
                    state_name(attempt.state),
                    attempt.provider,
                    attempt.worker_id,
                    when(attempt.start_time),
                    attempt.outcome.message,
                )
                for attempt in found.attempts
            ],
        )


@click.command("watch")
@click.argument("job")
@click.option("--after-version", type=click.IntRange(0), default=0, help="Only changes after this one.")
@output_option
@click.pass_context
def watch_command(ctx: click.Context, /, job: str, after_version: int, output: str) -> None:
    """Show each state change of a job until it has ended; as JSON a line each."""

    async def work(client: Client) -> None:
        async for response in client.watch(job, after_version=after_version):
            event = response.event
            if output == "json":
                print_json_line(as_json(response))
            else:
                cause = f" [{cause_name(event.cause)}]" if event.cause else ""
                state = state_name(event.state)
                click.echo(f"{when(event.time)}  {event.version:>3}  {state:<10} {plain(event.reason)}{cause}")

    with_client(ctx, work)


@click.command("wait")
@click.argument("jobs", nargs=-1, required=True)
@click.option("--timeout", type=DURATION, help="Give up after this long, with code 124.")
@output_option
@click.pass_context
def wait_command(ctx: click.Context, /, jobs: Sequence[str], timeout: float | None, output: str) -> int:
    """Wait for jobs to end; exit with the first code that is not 0, in the order given."""

    async def work(client: Client) -> list[wire.Outcome] | None:
        try:
            async with asyncio.timeout(timeout):
                return list(await asyncio.gather(*(client.wait(job) for job in jobs)))
        except TimeoutError:
            return None

    outcomes = with_client(ctx, work)
    if outcomes is None:
        click.echo("hodei: still not ended", err=True)
        return 124
    if output == "json":
        print_json([{"job_id": job, **as_json(outcome)} for job, outcome in zip(jobs, outcomes, strict=True)])
    else:
        for job, outcome in zip(jobs, outcomes, strict=True):
            click.echo(f"hodei: {job} {state_name(outcome.state)}: {plain(outcome.message)}", err=True)
    return next((code for code in map(exit_code_of, outcomes) if code), 0)


@click.command("cancel")
@click.argument("jobs", nargs=-1, required=True)
@click.option("--grace", type=DURATION, help="Between SIGTERM and SIGKILL.")
@click.option("--force", is_flag=True, help="SIGKILL at once; excludes --grace.")
@click.option("--reason", default="", help="Kept with the job.")
@click.option("--wait", is_flag=True, help="Until the process is gone.")
@click.pass_context
def cancel_command(ctx: click.Context, /, jobs: Sequence[str], **options: Any) -> int:
    """Stop jobs: all of them, before any is waited for.

    What is wrong with one is told, and the others are stopped all the same.
    """
    if options["force"] and options["grace"] is not None:
        raise click.UsageError("--force and --grace exclude each other")

    going: list[str] = []

    async def cancel(client: Client, job: str) -> None:
        found = await client.cancel(job, grace=options["grace"], force=options["force"], reason=options["reason"])
        if found.HasField("end_time") and not found.HasField("cancel_request_time"):
            click.echo(f"hodei: {job} had ended: {state_name(found.state)}", err=True)
        elif found.HasField("end_time"):
            await tell_end(client, job)
        elif options["wait"]:
            going.append(job)
        else:
            click.echo(f"hodei: {job} is being cancelled", err=True)

    async def tell_end(client: Client, job: str) -> None:
        outcome = await client.wait(job)
        click.echo(f"hodei: {job} {state_name(outcome.state)}: {plain(outcome.message)}", err=True)

    async def work(client: Client) -> int:
        all_well = await _each_by_itself(jobs, lambda job: cancel(client, job))
        # None goes on while another takes its time to end.
        all_ended = await _each_by_itself(going, lambda job: tell_end(client, job))
        return 0 if all_well and all_ended else EXIT_HODEI

    return with_client(ctx, work)


async def _each_by_itself(jobs: Sequence[str], do: Callable[[str], Awaitable[None]]) -> bool:
    """Do something to one job after the other; tell what is wrong with one, and go on. Return whether nothing was."""
    all_well = True
    for job in jobs:
        try:
            await do(job)
        except UnavailableError:
            raise  # nor would the server take any other
        except HodeiError as error:
            all_well = False
            for line in str(error).splitlines():
                click.echo(f"hodei: {job}: {line}", err=True)
    return all_well


@click.command("retry")
@click.argument("job")
@click.option("--request-id", default="", help="Names this submission.")
@secret_options
@click.pass_context
def retry_command(ctx: click.Context, /, job: str, request_id: str, **options: Any) -> None:
    """Submit an ended job again, as a new one, and print its id.

    The values of its secrets were erased when it ended: they are given again, and go where that job had them.
    """
    given = read_secrets(options, targets=False)
    click.echo(with_client(ctx, lambda client: client.retry(job, request_id=request_id, secrets=given)))


@click.command("explain")
@click.argument("job")
@output_option
@click.pass_context
def explain_command(ctx: click.Context, /, job: str, output: str) -> None:
    """Say why a job is where it is."""
    found = with_client(ctx, lambda client: client.explain(job))
    if output == "json":
        print_json(as_json(found))
        return
    click.echo(f"{state_name(found.state)}: {plain(found.summary)}")
    click.echo()
    print_verdicts(found.providers)
    click.echo()
    for decision in found.decisions:
        where = f"attempt {decision.attempt_number} to {decision.provider}" if decision.provider else "waits"
        click.echo(f"{when(decision.time)}  {where} by {decision.strategy}: {plain(decision.reason)}")
    for event in found.events:
        click.echo(f"{when(event.time)}  {state_name(event.state):<10} {plain(event.reason)}")
    for line in found.diagnosis:
        click.echo(f"  {plain(line)}")
