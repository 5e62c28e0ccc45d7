"""The justfile's jobs, as a person starts them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from hodei_server.app import Server

ROOT = Path(__file__).parents[3]
#: What each script says once it has done its work; that of the GPU has none here.
SAID = {
    "hello": "Hello from",
    "cpu": "times 20000 steps",
    "memory": "filled and let go",
    "data": "a 50005 rows, mean 499.7",
    "ml": "% of unseen points",
    "build": "it finds 348513 up to 5000000",
}


async def run_just(server: Server, *recipes: str) -> tuple[int, str]:
    """Run recipes against a server; return the exit code and all that was printed."""
    programs = Path(sys.executable).parent
    command = [str(programs / "just"), "--set", "bin", str(programs), *recipes]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=os.environ | {"HODEI_SERVER": server.address.target},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    code = process.returncode
    assert code is not None
    return code, out.decode()
