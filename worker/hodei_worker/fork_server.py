"""Starts workers by forking a process that has imported already what they need: that takes milliseconds.

    python -m hodei_worker.fork_server FD --worker-id -----…

It is started by whoever launches workers on this machine, with one end of a Unix socket that keeps the bounds of
messages as its descriptor FD, and serves as long as the other end is open. Messages are JSON objects:

    {"worker_id": …, "environment": {…}, "directory": …, "output": …}       asks for a worker
    {"worker_id": …, "pid": …}                                              answers that it was started,
    {"worker_id": …, "errno": …, "error": …}                                or why not
    {"worker_id": …, "status": …}                                           tells how it has ended, as `wait` does

It has one thread, and imports gRPC without using it: nothing of gRPC is running when it forks. A worker is in a session
of its own, has no descriptor of the fork server's, and shows its id in its arguments, as one that was executed does:
the fork server's own arguments keep the room for that.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import select
import socket
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hodei_worker.main import main as run_worker
from hodei_worker.main import preload

#: Bytes of a message at most.
MESSAGE_BYTES = 256 << 10
#: What stands in the arguments where a worker writes its id: as long as an id may be.
PLACEHOLDER = "-" * 63


def show_worker_id(worker_id: str) -> None:
    """Write a worker's id over the placeholder in this process's arguments, where `ps` and providers look."""
    encoded = worker_id.encode()
    if len(encoded) > len(PLACEHOLDER):
        raise ValueError(f"a worker's id has at most {len(PLACEHOLDER)} bytes")
    line = Path("/proc/self/cmdline").read_bytes()
    place = line.rfind(PLACEHOLDER.encode())
    # The name, in parentheses, may hold anything; arg_start is the 48th field.
    fields = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
    if place >= 0:
        ctypes.memmove(int(fields[45]) + place, encoded.ljust(len(PLACEHOLDER), b"\0"), len(PLACEHOLDER))


def become_worker(request: Mapping[str, Any]) -> int:
    """Be a worker, in the process that was forked for it; return its exit code."""
    worker_id: str = request["worker_id"]
    # First: whoever finds it by its id may end its whole session.
    os.setsid()
    show_worker_id(worker_id)
    os.chdir(request["directory"])
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.close(int(name))
    kept = {name: value for name, value in os.environ.items() if name.startswith("GRPC_")}
    os.environ.clear()
    os.environ.update(kept | request["environment"])
    gc.unfreeze()
    return run_worker(["--worker-id", worker_id])


class ForkServer:
    """Forks workers, reaps them, tells how they ended.

    :param control: the socket.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        #: Workers by the descriptor that tells their end: pid and id.
        self._workers: dict[int, tuple[int, str]] = {}

    def serve(self) -> None:
        """Serve until the other end of the socket is closed."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._workers:
                    self._reap(descriptor)
                    continue
                try:
                    message = self._control.recv(MESSAGE_BYTES)
                except ConnectionError:
                    return
                if not message:
                    return
                self._start(json.loads(message))

    def _start(self, request: Mapping[str, Any]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._say({"worker_id": request["worker_id"], "errno": error.errno, "error": error.strerror})
            return
        if pid == 0:
            _run_forked(request)
        descriptor = os.pidfd_open(pid)
        self._workers[descriptor] = (pid, request["worker_id"])
        self._poll.register(descriptor, select.POLLIN)
        self._say({"worker_id": request["worker_id"], "pid": pid})

    def _reap(self, descriptor: int) -> None:
        pid, worker_id = self._workers.pop(descriptor)
        self._poll.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        self._say({"worker_id": worker_id, "status": status})

    def _say(self, message: Mapping[str, Any]) -> None:
        # Where nobody listens any more, the next read tells.
        with contextlib.suppress(ConnectionError):
            self._control.send(json.dumps(message).encode())


def _run_forked(request: Mapping[str, Any]) -> None:
    """Run a worker and end the process, whatever happens; nothing of the fork server goes on in it."""
    code = 1
    try:
        code = become_worker(request)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
    finally:
        logging.shutdown()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def main() -> int:
    """Serve; return the exit code."""
    preload()
    # What is there now stays where it is, so that it remains shared with the workers.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        ForkServer(control).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
