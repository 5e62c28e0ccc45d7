"""A cluster's API that a test plays, for what a real one can't be made to say."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from aiohttp import web

from hodei_providers.kubernetes import KubernetesConfig

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def playing(answer: Answer, folder: Path) -> AsyncIterator[KubernetesConfig]:
    """Serve an API; give the configuration of the cluster that it plays, whose kubeconfig is in the folder."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        named = {"name": "only"}
        content = {
            "current-context": "only",
            "contexts": [named | {"context": {"cluster": "only", "user": "only"}}],
            "clusters": [named | {"cluster": {"server": f"http://{host}:{port}"}}],
            "users": [named | {"user": {"token": "a-token"}}],
        }
        file = folder / "kubeconfig"
        await asyncio.to_thread(file.write_text, json.dumps(content))
        yield KubernetesConfig(kubeconfig=str(file))
    finally:
        await runner.cleanup()
