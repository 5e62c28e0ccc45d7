"""Credentials of registries, from Docker's own file and its helpers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hodei_providers.contract import ProviderUnavailableError

HELPER_SECONDS = 20.0
DOCKER_HUB = "https://index.docker.io/v1/"


def registry_of(image: str) -> str:
    """Return the registry of an image, as Docker's file names it."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return DOCKER_HUB if first in {"docker.io", "index.docker.io"} else first
    return DOCKER_HUB


def default_file() -> Path:
    """Return where Docker's command keeps its file."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"


async def credentials_for(image: str, file: Path) -> dict[str, str] | None:
    """Return what to show to an image's registry, as the engine takes it; None where nothing is known.

    :raise ProviderUnavailableError: the file or a helper can't be used.
    """
    try:
        config = json.loads(await asyncio.to_thread(file.read_text))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ProviderUnavailableError(f"{file} can't be read: {error}") from None
    registry = registry_of(image)
    helper = config.get("credHelpers", {}).get(registry) or config.get("credsStore")
    if helper:
        return await _ask_helper(helper, registry)
    return _from_entry(config.get("auths", {}), registry)


def _from_entry(entries: Mapping[str, Any], registry: str) -> dict[str, str] | None:
    names = (registry, f"https://{registry}", f"https://{registry}/v1/", f"https://{registry}/v2/")
    entry = next((entries[name] for name in names if entries.get(name)), None)
    if entry is None:
        return None
    found = {"serveraddress": registry}
    if entry.get("identitytoken"):
        return found | {"identitytoken": entry["identitytoken"]}
    if entry.get("auth"):
        try:
            username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except ValueError:
            raise ProviderUnavailableError(f"the credentials of {registry} in Docker's file can't be read") from None
        return found | {"username": username, "password": password}
    if entry.get("username"):
        return found | {"username": entry["username"], "password": entry.get("password", "")}
    return None


async def _ask_helper(helper: str, registry: str) -> dict[str, str] | None:
    program = f"docker-credential-{helper}"
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise ProviderUnavailableError(f"{program} can't be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(HELPER_SECONDS):
            output, _ = await process.communicate(registry.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ProviderUnavailableError(f"{program} gave no answer for {registry}") from None
    if process.returncode != 0:
        if b"credentials not found" in output:
            return None
        raise ProviderUnavailableError(f"{program} failed for {registry} with exit code {process.returncode}")
    try:
        answer = json.loads(output)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise ProviderUnavailableError(f"{program} gave an answer for {registry} that can't be read") from None
    if username == "<token>":
        return {"serveraddress": registry, "identitytoken": secret}
    return {"serveraddress": registry, "username": username, "password": secret}
