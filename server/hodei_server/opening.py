"""Opens the providers that the settings name."""

from __future__ import annotations

import contextlib
import os

from hodei_providers.config import known_configs, renamed, written_names
from hodei_providers.contract import Provider
from hodei_providers.registry import ProviderSetupError, load_provider
from hodei_server.settings import Settings, SettingsError


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
