"""What a cluster's administrator has: the command `kubectl`, and what `hodei k8s manifests` prints for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hodei.address import Address
from hodei.transport import TlsFiles
from hodei_client import Client, ClientSettings, UnavailableError
from hodei_faults import cluster

#: How long commands wait that wait for something.
PATIENCE = f"--timeout={cluster.PATIENCE:.0f}s"


class Kubectl:
    """The command, as the cluster's administrator.

    :ivar warnings: what the API has said beside its answers.
    """

    def __init__(self, program: str) -> None:
        self.program = program
        self.warnings = ""

    async def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Run it; it must succeed."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(self.program, *arguments, stdin=pipe, stdout=pipe, stderr=pipe)
        out, err = await process.communicate(stdin.encode())
        assert process.returncode == 0, f"kubectl {' '.join(arguments)}: {err.decode()}"
        self.warnings += err.decode()
        return out.decode()

    async def apply(self, parts: Sequence[Mapping[str, Any]], *arguments: str) -> None:
        """Apply manifests; what the API does not know of them is refused."""
        options = ("--server-side", "--force-conflicts", "--validate=strict", *arguments)
        await self("apply", *options, "-f", "-", stdin=yaml.safe_dump_all(parts))

    @contextlib.asynccontextmanager
    async def forwarded(self, space: str, tls: TlsFiles | None = None, *, let_in: bool = True) -> AsyncIterator[Client]:
        """Return a client that comes in by the Service, through a forwarded port.

        :param tls: what it shows and trusts; plain text without.
        :param let_in: it is, and the first call has been answered: the first way through a busy cluster takes its time.
        """
        process = await asyncio.create_subprocess_exec(
            self.program,
            *("-n", space, "port-forward", "service/hodei-server", ":50051"),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            port = line.split("127.0.0.1:")[1].split()[0]
            address = Address("127.0.0.1", int(port), tls is not None)
            async with Client(settings=ClientSettings(address, tls or TlsFiles())) as client:

                async def answers() -> bool:
                    with contextlib.suppress(UnavailableError):
                        return bool(await client.providers())
                    return False

                if let_in:
                    await cluster.until(answers)
                yield client
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def printed(*arguments: str, **variables: str) -> list[dict[str, Any]]:
    """Return what `hodei k8s manifests` prints with these variables alone."""
    hodei = str(Path(sys.executable).with_name("hodei"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HODEI_")}
    process = await asyncio.create_subprocess_exec(
        hodei, "k8s", "manifests", *arguments, env=kept | variables, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return [part for part in yaml.safe_load_all(out) if part]
