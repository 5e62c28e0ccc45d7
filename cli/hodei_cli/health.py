"""Whether a server takes calls, for probes and for people."""

from __future__ import annotations

import click
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hodei_cli.session import make_settings, run_interruptible
from hodei_client.connection import Connection, trace_of_environment
from hodei_client.errors import NotFoundError


@click.command("health")
@click.argument("service", default="")
@click.pass_context
def health_command(ctx: click.Context, /, service: str) -> None:
    """Ask a server by grpc.health.v1 whether it serves; exit with 0 when it does.

    Without SERVICE it is asked for all that it serves; with one for that alone: hodei.v1.JobService, or hodei.archive
    for whether logs reach their bucket.
    """

    async def ask() -> int:
        connection = Connection(make_settings(ctx), trace_of_environment())
        try:
            stub = health_pb2_grpc.HealthStub(connection.channel)
            answer = await connection.call(stub.Check, health_pb2.HealthCheckRequest(service=service))
        except NotFoundError:
            raise click.ClickException(f"the server at {connection.server} serves no {service!r}") from None
        finally:
            await connection.channel.close()
        status: int = answer.status
        return status

    states = health_pb2.HealthCheckResponse
    status = states.ServingStatus.Name(states.ServingStatus.ValueType(run_interruptible(ask())))
    if status != "SERVING":
        raise click.ClickException(f"{service or 'the server'} is {status.lower().replace('_', ' ')}")
    click.echo(status.lower())
