"""`hodei completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from hodei_cli.commands import cli


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print a script that completes commands: source <(hodei completion bash)."""
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(found(cli, {}, "hodei", "_HODEI_COMPLETE").source())
