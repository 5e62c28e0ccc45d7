"""The process provider. It isolates nothing from its own user; see docs/providers.md."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import platform
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from hodei.folders import remove_folder
from hodei.secrets import memory_folder
from hodei_providers.architecture import architecture_names
from hodei_providers.contract import (
    Capabilities,
    Description,
    ExitReason,
    Handle,
    Health,
    LaunchRejectedError,
    LaunchRequest,
    Provider,
    ProviderUnavailableError,
    QuotaExceededError,
    UnsupportedRequestError,
    WorkerPhase,
)
from hodei_providers.description import signal_name
from hodei_providers.process import procfs
from hodei_providers.process.folder import WorkerFolder, all_records
from hodei_providers.process.options import READERS
from hodei_providers.process.workers import WorkerProcesses
from hodei_providers.registry import take_options

T = TypeVar("T")

_log = logging.getLogger("hodei.providers.process")

#: Seconds between looks at workers that another server started, for `watch`.
WATCH_SECONDS = 0.5
#: Rounds of killing whatever is left, each up to KILL_WAIT_SECONDS a process.
KILL_ROUNDS = 20
KILL_WAIT_SECONDS = 0.5
THREADS = 16


class ProcessProvider(Provider):
    """Starts workers as detached processes of this machine.

    Options: ``max_workers`` (default: twice the processors, at least 8), ``labels`` (key=value,…), ``regions``,
    ``cost_per_hour``, ``worker_command`` (what to run instead of this Python's worker).

    :param data_dir: the workers' folders are made under it.
    """

    kind = "process"

    def __init__(self, name: str, *, data_dir: Path, options: Mapping[str, str] | None = None) -> None:
        self.name = name
        taken: dict[str, Any] = take_options(name, options or {}, READERS)
        self._root = data_dir / "workers"
        self._workers = WorkerProcesses(taken.get("worker_command"))
        self._capabilities = Capabilities(
            max_workers=taken.get("max_workers", max(8, 2 * (os.cpu_count() or 1))),
            architectures=architecture_names(platform.machine()),
            cost_per_hour=taken.get("cost_per_hour", 0.0),
            typical_startup=0.3,
            regions=taken.get("regions", ()),
            labels=taken.get("labels", {}),
        )
        self._launching: dict[str, asyncio.Task[Handle]] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="process-provider")

    async def __aenter__(self) -> Self:
        """Make the folder of the workers, and have the fork server begin with its imports."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._run(self._workers.open)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go; the workers go on."""
        await self._run(self._workers.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def fork_server_pid(self) -> int | None:
        """The pid of the process that workers are forked from; None where they are executed."""
        return self._workers.fork_server_pid

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function)
        except OSError as error:
            # Too many files are open, or a disk fails.
            raise ProviderUnavailableError(f"this machine can't be asked: {error}") from error

    def capabilities(self) -> Capabilities:
        """Return what the options say."""
        return self._capabilities

    async def health(self) -> Health:
        """Tell whether folders for workers can be written."""

        def look() -> Health:
            probe = self._root / ".probe"
            try:
                probe.write_bytes(b"hodei")
                probe.unlink()
            except OSError as error:
                return Health(healthy=False, message=f"{self._root} can't be written: {error.strerror}")
            return Health(healthy=True)

        return await self._run(look)

    async def launch(self, request: LaunchRequest) -> Handle:
        """Start a worker; see the contract."""
        if request.image:
            raise UnsupportedRequestError("image", "a local process has no image: use a provider of containers")
        for field in dataclasses.fields(request.resources):
            if getattr(request.resources, field.name):
                raise UnsupportedRequestError(
                    f"resources.{field.name}", f"the provider {self.name} can't limit what a local process takes"
                )
        task = self._launching.get(request.worker_id)
        if task is None:
            task = asyncio.create_task(self._run(lambda: self._launch(request)), name=f"launch {request.worker_id}")
            self._launching[request.worker_id] = task
            task.add_done_callback(lambda done: self._launched(request.worker_id, done))
        # Carried to its end even if the caller goes: half a launch would be found by nobody.
        return await asyncio.shield(task)

    def _launched(self, worker_id: str, task: asyncio.Task[Handle]) -> None:
        del self._launching[worker_id]
        if not task.cancelled():
            task.exception()  # its caller may have gone

    def _launch(self, request: LaunchRequest) -> Handle:
        folder = WorkerFolder(self._root, request.worker_id)
        record = folder.read()
        if record is not None:
            there = self._workers.identify(record)
            if there is not None:
                return _handle(request.worker_id, there)
        try:
            return _handle(request.worker_id, self._workers.start(folder, request))
        except (FileNotFoundError, PermissionError) as error:
            folder.remove()
            raise LaunchRejectedError(f"the worker can't be started: {error}") from error
        except BlockingIOError as error:
            folder.remove()
            raise QuotaExceededError(f"this machine has no room for another process: {error}") from error
        except OSError as error:
            folder.remove()
            raise ProviderUnavailableError(f"the worker can't be started: {error}") from error

    async def describe(self, handle: Handle) -> Description:
        """Tell where a worker is; see the contract."""
        return await self._run(lambda: self._describe(handle.worker_id))

    def _describe(self, worker_id: str) -> Description:
        record = WorkerFolder(self._root, worker_id).read()
        if record is None:
            return Description(Handle(worker_id), WorkerPhase.MISSING, message="there is no trace of it")
        launching = worker_id in self._launching
        process = self._workers.identify(record)
        handle = _handle(worker_id, process)
        if process is not None:
            return Description(handle, WorkerPhase.RUNNING, message=f"runs as process {process.pid}")
        if launching:
            # Its record is there before its process is: that is not an end.
            return Description(handle, WorkerPhase.PENDING, message="is being launched")
        if not record.pid:
            return Description(handle, WorkerPhase.MISSING, message="its launch was never finished")
        code = self._workers.exit_code(worker_id)
        if code is None:
            return Description(handle, WorkerPhase.EXITED, message="its process is gone")
        if code < 0:
            message = f"ended by signal {signal_name(-code)}"
            return Description(handle, WorkerPhase.EXITED, None, -code, ExitReason.SIGNALLED, message)
        return Description(handle, WorkerPhase.EXITED, code, None, ExitReason.EXITED, f"exited with code {code}")

    async def destroy(self, handle: Handle, *, grace: float = 0.0) -> bool:
        """End a worker and all it started; see the contract."""
        # What is being launched is there only once that has come to its end, even if its caller has gone.
        if (launching := self._launching.get(handle.worker_id)) is not None:
            await asyncio.wait({launching})
        return await self._run(lambda: self._destroy(handle.worker_id, grace))

    def _destroy(self, worker_id: str, grace: float) -> bool:
        folder = WorkerFolder(self._root, worker_id)
        record = folder.read()
        worker = self._workers.identify(record) if record is not None else None
        if worker is not None and grace > 0:
            procfs.send_signal(worker, signal.SIGTERM)
            procfs.wait_gone(worker, grace)
        mark = f"HODEI_WORKER_ID={worker_id}".encode()
        roots = [] if worker is None else [worker]
        for _ in range(KILL_ROUNDS):
            left = procfs.family(roots, mark)
            if not left:
                break
            for process in left:
                procfs.send_signal(process, signal.SIGKILL)
            for process in left:
                procfs.wait_gone(process, KILL_WAIT_SECONDS)
            self._workers.reap(worker_id)
            # Those that were forked in between have new parents; their sessions and the mark find them.
            roots = left
        else:
            return False
        self._workers.forget(worker_id)
        # What a worker that was killed has left of its job's secrets.
        if not remove_folder(memory_folder(worker_id)):
            _log.error("the folder of secrets of worker %s can't be removed: %s", worker_id, memory_folder(worker_id))
        folder.remove()
        return True

    async def list(self, installation_id: str) -> Sequence[Handle]:
        """Return the installation's workers, running or not."""

        def look() -> Sequence[Handle]:
            records = [record for record in all_records(self._root) if record.installation_id == installation_id]
            return [_handle(record.worker_id, self._workers.identify(record)) for record in records]

        return await self._run(look)

    async def watch(self, installation_id: str) -> AsyncIterator[Description]:
        """Yield each worker once it is seen to have ended."""
        told: set[str] = set()
        while True:
            records = await self._run(lambda: list(all_records(self._root)))
            there = {record.worker_id for record in records if record.installation_id == installation_id}
            told &= there
            for worker_id in sorted(there - told):
                description = await self._run(functools.partial(self._describe, worker_id))
                if description.phase is WorkerPhase.EXITED:
                    told.add(worker_id)
                    yield description
            await asyncio.sleep(WATCH_SECONDS)

    async def diagnose(self, handle: Handle) -> Sequence[str]:
        """Return how a worker's process ended and the last it printed."""

        def look() -> Sequence[str]:
            with contextlib.suppress(OSError):
                lines = [f"worker {handle.worker_id}: {self._describe(handle.worker_id).message}"]
                return lines + WorkerFolder(self._root, handle.worker_id).last_output(20)
            return []

        return await self._run(look)


def _handle(worker_id: str, process: procfs.Process | None) -> Handle:
    if process is None:
        return Handle(worker_id)
    return Handle(worker_id, {"pid": str(process.pid), "start": str(process.start)})
