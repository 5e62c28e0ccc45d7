"""Workers as local processes: detached, found again after a restart of the server, ended with all they started."""

from hodei_providers.process.provider import ProcessProvider

__all__ = ["ProcessProvider"]
