"""`hodei submit`."""

from __future__ import annotations

from typing import Any

import click

from hodei_cli.session import with_client
from hodei_cli.spec_options import JobCommand, build_spec, spec_options


@click.command("submit", cls=JobCommand, context_settings={"allow_interspersed_args": False})
@spec_options
@click.pass_context
def submit_command(ctx: click.Context, /, **options: Any) -> None:
    """Submit a job and print its id.

    hodei submit --name train --workdir "$PWD" -- python train.py

    hodei submit -f job.yaml
    """
    spec = build_spec(options)
    click.echo(with_client(ctx, lambda client: client.submit(spec, request_id=options["request_id"])))
