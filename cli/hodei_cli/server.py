"""Commands that run, show or upgrade parts of a server."""

from __future__ import annotations

import os
from typing import Any

import click

from hodei_cli.display import output_option, print_json


@click.command("server")
@click.option("--listen", metavar="ADDRESS", help="Where clients connect [HODEI_LISTEN, 127.0.0.1:50051].")
@click.option(
    "--worker-listen", metavar="ADDRESS", help="Where workers connect [HODEI_WORKER_LISTEN, 127.0.0.1:50052]."
)
@click.option("--data-dir", type=click.Path(file_okay=False), help="Database and logs [HODEI_DATA_DIR].")
@click.option(
    "--database-url",
    metavar="URL",
    help="postgresql://…; SQLite under the data folder when empty [HODEI_DATABASE_URL].",
)
@click.option("--log-level", type=click.Choice(["error", "warn", "info", "debug"]), help="[HODEI_LOG_LEVEL, info].")
def server_command(**options: Any) -> int:
    """Run the server until it is asked to end.

    Its settings are HODEI_* variables; 'hodei config show' prints them all.
    """
    from hodei_server.running import run_server  # noqa: PLC0415 - needs the extra "server"

    return run_server({name: value for name, value in options.items() if value is not None})


@click.command(
    "worker",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker_command(arguments: tuple[str, ...]) -> int:
    """Run a worker. Providers start it; its settings are environment variables."""
    from hodei_worker.main import main  # noqa: PLC0415 - it sets up its own process

    return main(arguments)


@click.group("config")
def config_command() -> None:
    """The server's settings."""


@config_command.command("show")
@output_option
def show_command(output: str) -> None:
    """Print every setting in force, without secrets."""
    from hodei_server.settings import load_settings, show, unknown_variables  # noqa: PLC0415 - needs the extra "server"

    settings = load_settings()
    for name in unknown_variables(os.environ, settings.nobodys_options):
        click.echo(f"hodei: {name}: there is no such setting", err=True)
    shown = show(settings)
    if output == "json":
        print_json(shown)
        return
    for name, value in shown.items():
        click.echo(f"HODEI_{name.upper()}={value}")


@click.group("db")
def db_command() -> None:
    """The server's database (HODEI_DATABASE_URL, or SQLite under HODEI_DATA_DIR)."""


def open_database() -> Any:
    """Return the engine of the server's database, as the settings name it."""
    from hodei_server.db.engine import open_engine  # noqa: PLC0415 - needs the extra "server"
    from hodei_server.settings import load_settings  # noqa: PLC0415 - the same

    settings = load_settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return open_engine(settings.resolved_database_url, settings.durability)


@db_command.command("upgrade")
def upgrade_command() -> None:
    """Bring the database to the newest schema and print it."""
    from hodei_server.db.schema_version import upgrade  # noqa: PLC0415 - needs the extra "server"

    click.echo(upgrade(open_database()))


@db_command.command("current", short_help="Print the schema that the database has.")
def current_command() -> None:
    """Print the database's schema, and the newest where that is another."""
    from hodei_server.db.schema_version import SchemaVersionError, current_revision, require_newest  # noqa: PLC0415 - the same

    engine = open_database()
    click.echo(current_revision(engine) or "none")
    try:
        require_newest(engine)
    except SchemaVersionError as error:
        click.echo(f"hodei: {error}", err=True)


@db_command.command("confirm-clock", short_help="Let logs expire again once the clock was moved.")
def confirm_clock_command() -> None:
    """Let logs and jobs expire again after the clock was moved: it is right as it is.

    A server that finds its clock moved removes nothing until then. One that was running as the clock was moved is
    restarted first.
    """
    from hodei_server.db.clock import confirm_clock  # noqa: PLC0415 - needs the extra "server"
    from hodei_server.db.schema_version import SchemaVersionError, require_newest  # noqa: PLC0415 - the same
    from hodei_server.db.transaction import Transaction  # noqa: PLC0415 - the same

    engine = open_database()
    try:
        require_newest(engine)
    except SchemaVersionError as error:
        raise click.ClickException(str(error)) from None
    with engine.connect().execution_options(hodei_writer=True) as connection, connection.begin():
        moved = confirm_clock(Transaction(connection))
    click.echo(f"The clock was moved by {moved / 1e6:.0f} s." if moved else "The clock was not moved.")
