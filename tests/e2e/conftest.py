"""The installed command against a server of its own, as a user has them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hodei_faults.ports import free_port

HODEI = str(Path(sys.executable).with_name("hodei"))
PATIENCE = 60
#: The command, but that a first Ctrl-C waits for a second one for as long as a test takes.
PATIENT = """
from hodei_cli.main import main
import hodei_cli.run
hodei_cli.run.SECOND_CTRL_C_SECONDS = 600.0
main()
"""


class Cli:
    """Runs `hodei` with one environment.

    :ivar folder: for files of the test's jobs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.worker_port = free_port(), free_port()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
        self.environment = kept | {
            "HODEI_SERVER": f"127.0.0.1:{self.port}",
            "HODEI_LISTEN": f"127.0.0.1:{self.port}",
            "HODEI_WORKER_LISTEN": f"127.0.0.1:{self.worker_port}",
            "HODEI_DATA_DIR": str(folder / "data"),
            "HODEI_PING_INTERVAL": "500ms",
            "HODEI_DRAIN_TIMEOUT": "1s",
        }
        self.server: subprocess.Popen[bytes] | None = None

    def run(
        self, *arguments: str, stdin: bytes | None = None, check: int | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end.

        :param check: the exit code it must have.
        """
        done = subprocess.run(
            [HODEI, *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env=self.environment,
            cwd=self.folder,
            timeout=PATIENCE,
            check=False,
        )
        if check is not None:
            assert done.returncode == check, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done

    def start(self, *arguments: str, patient: bool = False) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own.

        :param patient: it waits for a second Ctrl-C.
        """
        return subprocess.Popen(
            [*((sys.executable, "-c", PATIENT) if patient else (HODEI,)), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            cwd=self.folder,
            start_new_session=True,
        )

    def start_server(self) -> None:
        """Start the server and wait until it says that it has."""
        with (self.folder / "server.log").open("ab") as output:
            before = output.tell()
            self.server = subprocess.Popen([HODEI, "server"], env=self.environment, stdout=output, stderr=output)
        deadline = time.monotonic() + PATIENCE
        while b"server.started" not in (self.folder / "server.log").read_bytes()[before:]:
            assert self.server.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline
            select_sleep()

    def end_server(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the server and return its exit code."""
        assert self.server is not None
        self.server.send_signal(number)
        return self.server.wait(PATIENCE)

    def wait_for(self, name: str) -> str:
        """Wait for a file that a job writes; return what is in it."""
        path = self.folder / name
        deadline = time.monotonic() + PATIENCE
        while not path.exists() or not path.read_text():
            assert time.monotonic() < deadline, f"{name} was never written"
            select_sleep()
        return path.read_text()


def select_sleep() -> None:
    """Let others run before a file is looked at again."""
    signal.sigtimedwait([], 0.02)


def leftovers(folder: Path) -> list[int]:
    """Return the processes that work in a folder or know of it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                text = (entry / "cmdline").read_bytes() + os.fsencode((entry / "cwd").readlink())
                if os.fsencode(folder) in text:
                    found.append(int(entry.name))
    return found


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Cli]:
    """Return a command line without a server."""
    cli = Cli(tmp_path)
    yield cli
    if cli.server is not None and cli.server.poll() is None:
        cli.end_server()
    for pid in leftovers(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def cli(offline: Cli) -> Cli:
    """Return a command line with a server."""
    offline.start_server()
    return offline
