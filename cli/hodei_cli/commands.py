"""The tree of commands, and what happens to errors that reach the top."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import hodei

EXIT_HODEI = 125
EXIT_USAGE = 2
#: As a shell tells of a program that SIGPIPE ended.
EXIT_READER_GONE = 141

#: Each command: where it is, its group in the help, what it does.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": ("hodei_cli.run", "Jobs", "Submit a job, follow its log, exit with its code."),
    "submit": ("hodei_cli.submit", "Jobs", "Submit a job and print its id."),
    "logs": ("hodei_cli.logs", "Jobs", "Print a job's log, or follow it."),
    "list": ("hodei_cli.jobs", "Jobs", "List jobs."),
    "get": ("hodei_cli.jobs", "Jobs", "Show a job."),
    "watch": ("hodei_cli.jobs", "Jobs", "Show each state change of a job until it has ended."),
    "wait": ("hodei_cli.jobs", "Jobs", "Wait for jobs to end; exit with the first code that is not 0."),
    "cancel": ("hodei_cli.jobs", "Jobs", "Stop jobs."),
    "retry": ("hodei_cli.jobs", "Jobs", "Submit an ended job again and print the new one's id."),
    "explain": ("hodei_cli.jobs", "Jobs", "Say why a job is where it is."),
    "bundle": ("hodei_cli.bundle", "Jobs", "Put all that is known of a job into one archive."),
    "place": (
        "hodei_cli.place",
        "Jobs",
        "Show where a job would go, or what another strategy had done.",
    ),
    "workers": ("hodei_cli.fleet", "Fleet", "List workers; drain one."),
    "providers": ("hodei_cli.fleet", "Fleet", "List providers; enable, drain or disable one."),
    "health": ("hodei_cli.health", "Serving", "Ask a server whether it serves; for probes."),
    "server": ("hodei_cli.server", "Serving", "Run the server."),
    "worker": ("hodei_cli.server", "Serving", "Run a worker (providers do this)."),
    "config": ("hodei_cli.server", "Serving", "Show the server's settings."),
    "db": ("hodei_cli.server", "Serving", "Upgrade the server's database, show its schema, confirm its clock."),
    "k8s": ("hodei_cli.kubernetes", "Serving", "Print what a Kubernetes cluster needs for workers."),
    "completion": ("hodei_cli.completion", "Shell", "Print a script that completes commands in bash, zsh or fish."),
}


class ReaderGoneError(Exception):
    """Whoever read the output has gone, as `head` does. The library's own code for that, 1, could be a job's."""


class LazyGroup(click.Group):
    """Knows its commands by name, and imports one when it is called."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGoneError from None

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the library's shape
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest the nearest for one that is unknown."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean '{near[0]}'?" if near else " See 'hodei --help'."
            raise click.UsageError(f"there is no command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - the same
        """Write the commands by groups, without importing any."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, (_, group, text) in COMMANDS.items():
            groups.setdefault(group, []).append((name, text))
        for group, rows in groups.items():
            with formatter.section(group):
                formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes of run and wait: the job's own; 128+N for signal N; 124 it ran or waited too long; 126 not "
    "executable; 127 not found; 130 cancelled, or left by Ctrl-C; 141 nobody reads on; 125 Hodei's own errors. "
    "All others: 0, 2 (usage), 125.",
)
@click.option("--server", metavar="ADDRESS", default="", help="host:port or https://… [HODEI_SERVER, 127.0.0.1:50051]")
@click.option("--tls-ca", type=click.Path(path_type=Path), help="Whom to trust, PEM [HODEI_TLS_CA]")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate to show, PEM [HODEI_TLS_CERT]")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key, PEM [HODEI_TLS_KEY]")
@click.version_option(hodei.__version__, prog_name="hodei", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, /, **options: Any) -> None:
    """Hodei runs jobs on demand: on this machine, in containers, on Kubernetes."""
    ctx.obj = options


def run_cli(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code; every error is one line that says what to do."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    command = next((arg for arg in args if arg in COMMANDS), "")
    # The job's own code must not be mistaken for ours.
    usage_code = EXIT_HODEI if command in {"run", "wait"} else EXIT_USAGE
    try:
        code = cli.main(args, prog_name="hodei", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(EXIT_USAGE)
    except click.UsageError as error:
        path = (error.ctx.command_path if error.ctx else f"hodei {command}").rstrip()
        _fail(f"{_lower(error.format_message())} (see '{path} --help')", usage_code)
    except click.ClickException as error:
        _fail(error.format_message(), EXIT_HODEI)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except ReaderGoneError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing more is flushed at exit
        sys.exit(EXIT_READER_GONE)
    except ImportError as error:
        extra = "server" if _asked_by_server(error) else "cli"
        _fail(f"'hodei {command}' needs {error.name}: pip install 'hodei-jobs[{extra}]'", EXIT_HODEI)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), EXIT_HODEI)
    except Exception as error:
        if not _is_ours(error):
            raise
        _fail(str(error), EXIT_HODEI)
    sys.exit(code if isinstance(code, int) else 0)


def _asked_by_server(error: ImportError) -> bool:
    """Whether it was the server's code that found a package missing."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith("hodei_server") for frame, _ in frames)


def _is_ours(error: Exception) -> bool:
    """Whether an error was made for people: its message is one."""
    return type(error).__module__.split(".")[0] in {"hodei", "hodei_client", "hodei_server", "hodei_providers"}


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")


def _fail(message: str, code: int) -> None:
    for line in message.splitlines() or [""]:
        click.echo(f"hodei: {line}", err=True)
    sys.exit(code)
