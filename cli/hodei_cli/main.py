"""The command `hodei`. Commands are imported when they are called: `hodei --help` needs no gRPC."""

from __future__ import annotations

import os
import sys

EXIT_HODEI = 125


def main() -> None:
    """Run the command line; exits."""
    try:
        import click  # noqa: F401, PLC0415 - the message below is for those who lack it
    except ImportError:
        sys.stderr.write("hodei: the command line needs more packages: pip install 'hodei-jobs[cli]'\n")
        sys.exit(EXIT_HODEI)
    # gRPC's own log is for its developers; what concerns a user comes as an error.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # A server in this process starts workers: gRPC, which reads this when it is first imported, keeps out of that.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    from hodei_cli.commands import run_cli  # noqa: PLC0415 - needs click

    run_cli()
