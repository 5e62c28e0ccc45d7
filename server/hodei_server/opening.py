"""Opens what the settings name: the bucket of the logs, the providers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import structlog

from hodei_logstore.file import FileLogStore
from hodei_providers.config import known_configs, renamed, written_names
from hodei_providers.contract import Provider
from hodei_providers.registry import ProviderSetupError, load_provider
from hodei_server.db.archive import any_in_s3
from hodei_server.db.database import Database
from hodei_server.settings import Settings, SettingsError

if TYPE_CHECKING:
    from hodei_logstore.s3 import S3LogStore  # needs the extra "s3"

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


async def open_archive(
    disk: FileLogStore, settings: Settings, installation_id: str, database: Database
) -> S3LogStore | None:
    """Return the store of disk and bucket, where there is one.

    :raise SettingsError: it needs packages that are missing.
    """
    if not settings.s3_bucket:
        if await database.read(any_in_s3):
            _log.error("archive.unknown", message="logs of this installation are in S3, but HODEI_S3_BUCKET names none")
        return None
    try:
        from hodei_server.log_archive import archived_store  # noqa: PLC0415 - needs the extra "s3"
    except ImportError as error:
        raise SettingsError(f"HODEI_S3_BUCKET needs {error.name}: pip install 'hodei-jobs[s3]'") from None
    return await asyncio.to_thread(archived_store, disk, settings, installation_id)


async def open_providers(settings: Settings, stack: contextlib.AsyncExitStack) -> dict[str, Provider]:
    """Make and enter every provider; return them by name.

    :param stack: leaves them.
    :raise ProviderSetupError: one can't be had; names it, and its options as they were written.
    :raise SettingsError: there is none, or one that can have no pool has one.
    """
    providers: dict[str, Provider] = {}
    for name, kind in settings.provider_kinds.items():
        try:
            provider = load_provider(
                kind,
                name,
                data_dir=settings.data_dir / "providers" / name,
                options=settings.provider_options(name),
                environment=os.environ,
                shared=settings.shared_options,
            )
            provider.check_orphan_after(settings.orphan_after)
            await provider.check_beside(list(providers.values()))
            providers[name] = await stack.enter_async_context(provider)
        except ProviderSetupError as error:
            raise ProviderSetupError(_told(str(error), settings, name, kind)) from error
        pools = settings.pools[name].pools
        if pools and provider.capabilities().one_tenant:
            raise SettingsError(
                f"{pools[0].variable}: provider {name} starts each worker for one tenant, and none can wait before it "
                "is known for whom"
            )
    if not providers:
        raise SettingsError("HODEI_PROVIDERS: names no provider")
    return providers


def _told(message: str, settings: Settings, name: str, kind: str) -> str:
    """Return what is wrong with a provider, so that it is known of which, and where it was written."""
    config = known_configs().get(kind)
    if config is not None:
        message = renamed(message, written_names(config, settings.provider_config(name)))
    return message if name == kind or name in message else f"provider {name}: {message}"
