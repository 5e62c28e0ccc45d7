"""The object that holds every setting."""

from __future__ import annotations

from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from hodei_server.settings.file import read_file
from hodei_server.settings.listeners import ListenerGroup
from hodei_server.settings.logs import LogGroup
from hodei_server.settings.placement import PlacementGroup
from hodei_server.settings.providers import ProviderGroup
from hodei_server.settings.s3 import S3Group
from hodei_server.settings.secrets import SecretsGroup
from hodei_server.settings.server import ServerGroup
from hodei_server.settings.values import PREFIX, SettingsGroup
from hodei_server.settings.workers import WorkerGroup

#: In the order in which they are told.
GROUPS: tuple[type[SettingsGroup], ...] = (
    ServerGroup,
    ListenerGroup,
    ProviderGroup,
    PlacementGroup,
    WorkerGroup,
    LogGroup,
    S3Group,
    SecretsGroup,
)


class Settings(
    ServerGroup,
    ListenerGroup,
    ProviderGroup,
    PlacementGroup,
    WorkerGroup,
    LogGroup,
    S3Group,
    SecretsGroup,
    BaseSettings,
):
    """Every setting of the server. Durations are seconds and sizes bytes once read."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's shape
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, then environment, then the file that HODEI_CONFIG_FILE names."""
        settings, _ = read_file()
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=settings)
