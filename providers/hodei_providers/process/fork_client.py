"""The way to a worker's fork server: started, asked for workers, told of their ends, started again when it has died.

What it is and how it is spoken to stands in the worker's `hodei_worker.fork_server`, which is only ever executed.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as AnswerTimeoutError
from pathlib import Path
from typing import Any

MODULE = "hodei_worker.fork_server"
#: As in that module: what a worker's id is written over.
PLACEHOLDER = "-" * 63
MESSAGE_BYTES = 256 << 10
#: Seconds for an answer; the first one waits for the imports.
ANSWER_SECONDS = 30.0
#: Seconds before one that has died is started again.
RESTART_SECONDS = 5.0
#: Seconds that one has to end once nobody talks to it.
END_SECONDS = 2.0
#: Seconds for the news of an end that was seen otherwise already.
NEWS_SECONDS = 1.0


class ForkServerGoneError(Exception):
    """The fork server has died, or doesn't answer: whether it has started the worker isn't known."""


class ForkClient:
    """Holds one fork server.

    :param environment: the fork server's own; a worker's is told with each launch.
    :ivar ended: how its workers ended, as `wait` tells it, until `forget`.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.ended: dict[str, int] = {}
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._news = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._asked: dict[str, Future[int]] = {}
        self._running: set[str] = set()
        self._not_before = 0.0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The fork server's pid; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> bool:
        """Start it where there is none; return whether there is one now."""
        with self._lock:
            if self._control is not None:
                return True
            if self._closed or time.monotonic() < self._not_before:
                return False
            self._not_before = time.monotonic() + RESTART_SECONDS
            mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with its:
                command = [sys.executable, "-m", MODULE, str(its.fileno()), "--worker-id", PLACEHOLDER]
                try:
                    # In a session of its own: an interrupt at the server's terminal is none of its business.
                    self._process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        pass_fds=[its.fileno()],
                        cwd="/",
                        env=self._environment,
                        start_new_session=True,
                    )
                except OSError:
                    mine.close()
                    return False
            self._control = mine
            threading.Thread(target=self._read, args=(mine, self._process), name="fork-server", daemon=True).start()
            return True

    def launch(self, worker_id: str, environment: Mapping[str, str], directory: Path, output: Path) -> int:
        """Have a worker started; return its pid.

        :raise ForkServerGoneError: see there.
        :raise OSError: it can't be forked.
        """
        message = {
            "worker_id": worker_id,
            "environment": dict(environment),
            "directory": str(directory),
            "output": str(output),
        }
        answer: Future[int] = Future()
        with self._lock:
            control = self._control
            if control is None:
                raise ForkServerGoneError("there is no fork server")
            self._asked[worker_id] = answer
            try:
                control.send(json.dumps(message).encode())
            except OSError as error:
                self._asked.pop(worker_id, None)
                raise ForkServerGoneError(f"the fork server can't be reached: {error}") from error
        try:
            return answer.result(ANSWER_SECONDS)
        except AnswerTimeoutError:
            self._kill()
            raise ForkServerGoneError("the fork server did not answer") from None

    def status(self, worker_id: str) -> int | None:
        """Return how a worker that has gone has ended, as `wait` tells it; None where that isn't known."""
        with self._news:
            self._news.wait_for(lambda: worker_id in self.ended or worker_id not in self._running, NEWS_SECONDS)
            return self.ended.get(worker_id)

    def forget(self, worker_id: str) -> None:
        """Keep nothing of a worker."""
        with self._news:
            self.ended.pop(worker_id, None)
            self._running.discard(worker_id)

    def close(self) -> None:
        """Let it end; its workers go on."""
        self._closed = True
        with self._lock:
            control, self._control = self._control, None
        if control is not None:
            with contextlib.suppress(OSError):
                control.shutdown(socket.SHUT_RDWR)
        process = self._process
        if process is not None:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _kill(self) -> None:
        process = self._process
        if process is not None:
            process.kill()

    def _read(self, control: socket.socket, process: subprocess.Popen[bytes]) -> None:
        """Take what it says, until it says no more."""
        with control:
            while True:
                try:
                    data = control.recv(MESSAGE_BYTES)
                except OSError:
                    break
                if not data:
                    break
                self._take(json.loads(data))
            if not self._closed:
                # What is left of it must start nothing more, before it is said to be gone.
                process.kill()
                process.wait()
            with self._lock:
                if self._control is control:
                    self._control = None
                asked, self._asked = self._asked, {}
        for answer in asked.values():
            answer.set_exception(ForkServerGoneError("the fork server has died"))
        with self._news:
            # Nobody tells any more how these will end.
            self._running.clear()
            self._news.notify_all()

    def _take(self, message: Mapping[str, Any]) -> None:
        worker_id = message["worker_id"]
        if "status" in message:
            with self._news:
                if worker_id in self._running:
                    self.ended[worker_id] = message["status"]
                    self._running.discard(worker_id)
                self._news.notify_all()
            return
        with self._lock:
            answer = self._asked.pop(worker_id, None)
        if "pid" in message:
            with self._news:
                self._running.add(worker_id)
        if answer is None or answer.done():
            return
        if "pid" in message:
            answer.set_result(message["pid"])
        else:
            answer.set_exception(OSError(message["errno"] or 0, message["error"] or os.strerror(0)))
