"""A provider for benches: it hands launches to `fleet_process.py`, whose workers speak the protocol and run nothing.

A launch is a file named like its worker, in the folder of one of the processes; a worker is there as long as its file.
"""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from hodei_providers.contract import (
    Capabilities,
    Description,
    Handle,
    Health,
    LaunchRequest,
    Provider,
    WorkerPhase,
)
from hodei_providers.registry import take_options


class FleetProvider(Provider):
    """Keeps workers as files.

    Options: ``folder`` (has one folder for each process, named 0, 1, …), ``processes`` (how many).
    """

    kind = "fleet"

    def __init__(self, name: str, *, data_dir: Path, options: Mapping[str, str]) -> None:  # noqa: ARG002 - the contract
        taken = take_options(name, options, {"folder": Path, "processes": int})
        self.name = name
        self._folder = Path(str(taken["folder"]))
        self._processes = int(str(taken["processes"]))

    def _file(self, worker_id: str) -> Path:
        return self._folder / str(zlib.crc32(worker_id.encode()) % self._processes) / worker_id

    def capabilities(self) -> Capabilities:
        """Return that there is room for any number."""
        return Capabilities(max_workers=1_000_000, typical_startup=0.0)

    async def health(self) -> Health:
        """Always well."""
        return Health(healthy=True)

    async def launch(self, request: LaunchRequest) -> Handle:
        """Write a launch down for the process that plays the worker."""
        file = self._file(request.worker_id)
        hidden = file.with_name(f".{file.name}")
        with os.fdopen(os.open(hidden, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as out:
            json.dump(
                {"server": request.server_address, "otp": request.otp, "installation": request.installation_id}, out
            )
        hidden.rename(file)
        return Handle(request.worker_id)

    async def describe(self, handle: Handle) -> Description:
        """Tell whether a worker's file is there."""
        there = self._file(handle.worker_id).exists()
        return Description(handle, WorkerPhase.RUNNING if there else WorkerPhase.MISSING)

    async def destroy(self, handle: Handle, *, grace: float = 0.0) -> bool:  # noqa: ARG002 - it takes no time
        """Remove a worker's file; its session has ended already."""
        self._file(handle.worker_id).unlink(missing_ok=True)
        return True

    async def list(self, installation_id: str) -> Sequence[Handle]:
        """Return an installation's workers."""
        return [
            Handle(file.name)
            for file in self._folder.glob("*/w*")
            if json.loads(file.read_text())["installation"] == installation_id
        ]

    async def watch(self, installation_id: str) -> AsyncIterator[Description]:  # noqa: ARG002 - nothing happens here
        """Yield nothing."""
        await asyncio.Event().wait()
        yield Description(Handle(""), WorkerPhase.MISSING)

    async def diagnose(self, handle: Handle) -> Sequence[str]:  # noqa: ARG002 - nothing is known
        """Return nothing."""
        return []
