"""Commands about workers and providers."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from hodei.v1 import provider_pb2 as wire
from hodei_cli.display import as_json, output_option, plain, print_json, print_table, when
from hodei_cli.session import with_client
from hodei_client.client import Client

#: Seconds between looks at a provider that is being drained.
POLL_SECONDS = 0.5


def _worker_state(state: int) -> str:
    return wire.WorkerState.Name(wire.WorkerState.ValueType(state)).removeprefix("WORKER_STATE_").lower()


def _provider_state(state: int) -> str:
    return wire.ProviderState.Name(wire.ProviderState.ValueType(state)).removeprefix("PROVIDER_STATE_").lower()


@click.group("workers", invoke_without_command=True)
@click.option("--provider", metavar="NAME", default="", help="Only on this provider.")
@click.option("--all", "include_gone", is_flag=True, help="Those that are gone, too.")
@output_option
@click.pass_context
def workers_command(ctx: click.Context, /, provider: str, *, include_gone: bool, output: str) -> None:
    """List workers."""
    if ctx.invoked_subcommand is not None:
        return

    async def work(client: Client) -> list[wire.Worker]:
        return [worker async for worker in client.workers(provider=provider, include_gone=include_gone)]

    workers = with_client(ctx, work)
    if output == "json":
        print_json([as_json(worker) for worker in workers])
        return
    print_table(
        ("WORKER", "PROVIDER", "STATE", "CONNECTED", "JOB", "DONE", "SINCE"),
        [
            (
                worker.worker_id,
                worker.provider,
                "warm" if worker.warm else _worker_state(worker.state),
                "yes" if worker.connected else "no",
                worker.job_id,
                str(worker.jobs_done),
                when(worker.create_time),
            )
            for worker in workers
        ],
    )


@workers_command.command("drain", short_help="Let a worker take no further job.")
@click.argument("worker")
@click.pass_context
def drain_command(ctx: click.Context, /, worker: str) -> None:
    """Let a worker take no further job; it goes when its current one has ended."""
    found = with_client(ctx, lambda client: client.drain_worker(worker))
    click.echo(f"hodei: {found.worker_id} is {_worker_state(found.state)}", err=True)


@click.group("providers", invoke_without_command=True)
@output_option
@click.pass_context
def providers_command(ctx: click.Context, /, output: str) -> None:
    """List providers."""
    if ctx.invoked_subcommand is not None:
        return
    providers = with_client(ctx, lambda client: client.providers())
    if output == "json":
        print_json([as_json(provider) for provider in providers])
        return
    print_table(
        ("PROVIDER", "KIND", "STATE", "HEALTH", "WORKERS", "COST/H"),
        [
            (
                each.name,
                each.kind,
                _provider_state(each.state),
                "healthy" if each.healthy else each.health_message,
                f"{each.workers}/{each.capabilities.max_workers}",
                f"{each.capabilities.cost_per_hour:g}",
            )
            for each in providers
        ],
    )


@providers_command.command("get")
@click.argument("provider")
@output_option
@click.pass_context
def get_command(ctx: click.Context, /, provider: str, output: str) -> None:
    """Show a provider and what it can do."""
    found = with_client(ctx, lambda client: client.provider(provider))
    if output == "json":
        print_json(as_json(found))
        return
    rows = [
        ("provider", found.name),
        ("kind", found.kind),
        ("state", _provider_state(found.state)),
        ("health", "healthy" if found.healthy else found.health_message),
        ("workers", f"{found.workers}/{found.capabilities.max_workers}"),
        *((name.replace("_", " "), _said(value)) for name, value in as_json(found.capabilities).items()),
    ]
    for name, value in rows:
        if value:
            click.echo(f"{name + ':':<20}{plain(value)}")


def _said(value: Any) -> str:
    """Return a field as people write it; empty for what is empty."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={_said(each)}" for name, each in sorted(value.items()))
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _state_command(name: str, state: wire.ProviderState.ValueType, text: str) -> None:
    @providers_command.command(name, help=text, short_help=text.partition(";")[0] + ("." if ";" in text else ""))
    @click.argument("provider")
    @click.pass_context
    def command(ctx: click.Context, /, provider: str, **_: Any) -> None:
        found = with_client(ctx, lambda client: client.set_provider_state(provider, state))
        click.echo(f"hodei: {found.name} is {_provider_state(found.state)}", err=True)


_state_command("enable", wire.PROVIDER_STATE_ENABLED, "Let a provider take jobs.")
_state_command("disable", wire.PROVIDER_STATE_DISABLED, "Let a provider take nothing new; what runs there goes on.")


@providers_command.command("drain", short_help="Let a provider end what it has, then disable it.")
@click.argument("provider")
@click.option("--wait", is_flag=True, help="Until it has no workers.")
@click.pass_context
def drain_provider_command(ctx: click.Context, /, provider: str, *, wait: bool) -> None:
    """Let a provider finish what it has and take nothing new; it is disabled once it has no workers."""

    async def work(client: Client) -> wire.Provider:
        found = await client.set_provider_state(provider, wire.PROVIDER_STATE_DRAINING)
        while wait and found.state == wire.PROVIDER_STATE_DRAINING:
            await asyncio.sleep(POLL_SECONDS)
            found = await client.provider(provider)
        return found

    found = with_client(ctx, work)
    click.echo(f"hodei: {found.name} is {_provider_state(found.state)}, workers: {found.workers}", err=True)
    if wait and found.state != wire.PROVIDER_STATE_DISABLED:
        raise click.ClickException("somebody has enabled it again")
