"""Somebody who has a fresh clone, and does what a page of it says, word for word."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
#: In seconds; images may have to be built, and a cluster made.
BUILD_PATIENCE, PATIENCE = 600, 120


class Reader:
    """A fresh clone of the last commit and an empty home folder; each code block is a terminal of its own.

    Taken for granted: that `make venv` installs what the lock names, as it did for whoever runs this test, and that the
    server's usual ports are free.

    :param folder: empty; the clone and the home become folders of it.
    :param variables: what the reader has set before.
    :ivar home: the reader's home folder.
    """

    def __init__(self, folder: Path, **variables: str) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self._clone, self._output = folder / "hodei", folder / "output"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self._clone)], check=True)
        self._install()
        private = ("HODEI_", "XDG_", "VIRTUAL_ENV", "KUBE")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(private)}
        self._environment = kept | variables | {"HOME": str(self.home)}
        self._server: subprocess.Popen[bytes] | None = None

    def _install(self) -> None:
        """Do what `make venv` does, with the packages of this environment in place of a minute's download."""
        environment = self._clone / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
        (packages,) = environment.glob("lib/python*/site-packages")
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable")
        subprocess.run([str(environment / "bin" / "python"), *install, str(self._clone)], check=True)
        (environment / "bin" / "just").symlink_to(Path(sys.executable).with_name("just"))
        (environment / ".installed").touch()

    def blocks(self, page: str, title: str) -> list[tuple[str, str]]:
        """Return the code blocks of a page's section: of which language each is, and its text."""
        text = (self._clone / page).read_text()
        (section,) = re.findall(rf"^## {title}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
        return re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)

    def serve(self, commands: str) -> None:
        """Run a block whose last command is a server, until that has started."""
        with self._output.open("wb") as output:
            self._server = self._shell(commands, stdout=output, stderr=output)
        deadline = time.monotonic() + BUILD_PATIENCE
        while "server.started" not in self.shown():
            assert self._server.poll() is None, self.shown()
            assert time.monotonic() < deadline, self.shown()
            signal.sigtimedwait([], 0.05)

    def shown(self) -> str:
        """Return what the server's terminal shows so far."""
        return self._output.read_text()

    def run(self, command: str, code: int = 0) -> str:
        """Run a command to its end in another terminal, which must be of that code; return all that it shows."""
        process = self._shell(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        shown = process.communicate(timeout=PATIENCE)[0].decode()
        assert process.returncode == code, f"{command}: {process.returncode}, {shown}{self.shown()[-3000:]}"
        return shown

    def _shell(self, commands: str, **streams: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["sh", "-e", "-c", commands],
            cwd=self._clone,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **streams,
        )

    def leave(self) -> None:
        """End the server, as Ctrl-C in its terminal does."""
        if self._server is not None and self._server.poll() is None:
            os.killpg(self._server.pid, signal.SIGINT)
            self._server.wait(PATIENCE)
