"""The processes of workers: how they are started, found again, and how they ended."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping

from hodei_providers.contract import LaunchRequest
from hodei_providers.process import procfs
from hodei_providers.process.folder import AUTHORITY, OUTPUT, TOKEN, Record, WorkerFolder
from hodei_providers.process.fork_client import ForkClient, ForkServerGoneError

#: What a worker inherits of the server's environment; none of the server's own settings.
INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE")


class WorkerProcesses:
    """Starts the processes of workers and knows them again. Blocks: its calls are made in threads.

    :param command: what to execute; None has them forked from a process that has imported this Python's worker.
    """

    def __init__(self, command: list[str] | None) -> None:
        self._command = command or [sys.executable, "-m", "hodei_worker"]
        # Only this Python's own worker can be forked from what has imported it.
        self._forks = None if command else ForkClient(_inherited())
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._exits: dict[str, int] = {}

    def open(self) -> None:
        """Have the fork server begin with its imports."""
        if self._forks is not None:
            self._forks.start()

    def close(self) -> None:
        """Let go; the workers go on."""
        if self._forks is not None:
            self._forks.close()
        for child in self._children.values():
            # It is another's child from now on: nothing to be warned of.
            child.poll()
            child.returncode = child.returncode or 0
        self._children.clear()

    @property
    def fork_server_pid(self) -> int | None:
        """The pid of the process that workers are forked from; None where they are executed."""
        return self._forks.pid if self._forks is not None else None

    def start(self, folder: WorkerFolder, request: LaunchRequest) -> procfs.Process | None:
        """Start a worker, with its record written before and after.

        :return: its process; None where that has ended already.
        :raise OSError: it can't be started.
        """
        record = Record(request.worker_id, request.installation_id)
        folder.write(record)
        environment = _inherited() | request.worker_environment(str(folder.path))
        environment["HODEI_OTP_TOKEN_FILE"] = str(folder.write_secret(TOKEN, request.otp.encode()))
        if request.ca_pem is not None:
            environment["HODEI_TLS_CA"] = str(folder.write_secret(AUTHORITY, request.ca_pem))
        pid = self._fork(folder, record, environment)
        if pid is None:
            pid = self._execute(folder, request.worker_id, environment)
        process = procfs.look_up(pid)
        # One that has ended already was launched all the same: no other process is taken for it, without a start.
        start = 0 if process is None else process.start
        folder.write(dataclasses.replace(record, pid=pid, start=start, boot_id=procfs.boot_id()))
        return process

    def _fork(self, folder: WorkerFolder, record: Record, environment: Mapping[str, str]) -> int | None:
        """Have a worker forked; return its pid, or None where it is to be executed instead."""
        if self._forks is None or not self._forks.start():
            return None
        try:
            return self._forks.launch(record.worker_id, environment, folder.path, folder.path / OUTPUT)
        except ForkServerGoneError:
            # It is dead by now, but may have started the worker before.
            there = self.identify(record)
            return None if there is None else there.pid

    def _execute(self, folder: WorkerFolder, worker_id: str, environment: Mapping[str, str]) -> int:
        with (folder.path / OUTPUT).open("ab") as output:
            child = subprocess.Popen(
                [*self._command, "--worker-id", worker_id],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder.path,
                env=environment,
                start_new_session=True,
            )
        self._children[worker_id] = child
        return child.pid

    def identify(self, record: Record) -> procfs.Process | None:
        """Return a worker's own process, if it runs."""
        self.reap(record.worker_id)
        if record.pid:
            process = procfs.look_up(record.pid)
            same = process is not None and process.start == record.start and record.boot_id == procfs.boot_id()
            return process if same else None
        # Launched by a server that died before it could write the pid down.
        mark = (b"--worker-id", record.worker_id.encode())
        return next((found for found in procfs.all_processes() if procfs.has_arguments(found.pid, mark)), None)

    def reap(self, worker_id: str) -> None:
        """Take note of how a worker ended that this process has executed, if it has."""
        child = self._children.get(worker_id)
        if child is not None and child.poll() is not None:
            self._exits[worker_id] = child.returncode
            del self._children[worker_id]

    def exit_code(self, worker_id: str) -> int | None:
        """Return how a worker's process ended, negative for a signal; None where nobody has seen it."""
        code = self._exits.get(worker_id)
        if code is None and self._forks is not None:
            status = self._forks.status(worker_id)
            code = None if status is None else os.waitstatus_to_exitcode(status)
        return code

    def forget(self, worker_id: str) -> None:
        """Forget how a worker's process ended."""
        self.reap(worker_id)
        self._exits.pop(worker_id, None)
        if self._forks is not None:
            self._forks.forget(worker_id)


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ}
