"""Settings of providers: which there are, and what is given to each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import ClassVar

from pydantic import Field, PrivateAttr

from hodei_providers.config import ConfigError, Given, enabled_kinds, given_options, known_configs
from hodei_server.settings.pools import PoolSettings, is_pool_option, read_pools
from hodei_server.settings.prices import PlacingSettings, is_placing_option, read_placing
from hodei_server.settings.provider_tables import ProviderTable, named_kinds, options_by_provider
from hodei_server.settings.values import Duration, SettingsError, SettingsGroup

_PAGE = """\
In the file each provider is a table, with its name, its kind and its options in lower case; there may be several
of one kind:

```toml
lease = "20s"                       # HODEI_LEASE

[providers.eu-west]                 # the name that jobs use
kind = "docker"                     # the name itself when absent
host = "tcp://docker.eu.example:2376"
max_workers = 20
container_labels = { team = "ops" } # team=ops in a variable
mounts = ["/data:/data:ro"]
pool_min_ready = 2

[providers.batch]
kind = "kubernetes"
context = "batch"
tolerations = [{ key = "pool", operator = "Exists" }] # JSON in a variable
```

A file with such tables has no other providers but what `…_ENABLED` adds, unless `HODEI_PROVIDERS` lists them; then it
chooses among the file's by their names. The variable of one provider's option is `HODEI_PROVIDER_<NAME>_<OPTION>`, its
name's dashes written `_` (`HODEI_PROVIDER_EU_WEST_HOST`). It wins over the file, and the file over the kind's variables
below. A name is at most 63 lower-case letters, digits and dashes. Drain a provider before you take it out of the
configuration: what it still holds is then nobody's to remove.

Options of the process provider: `MAX_WORKERS`, `LABELS` (`key=value,…`), `REGIONS`, `COST_PER_HOUR`,
`WORKER_COMMAND`; for the provider named `process`, `HODEI_PROVIDER_PROCESS_MAX_WORKERS=16`.

Every provider may have pools of ready workers: `POOL_MIN_READY` (how many wait, started ahead of jobs; 0),
`POOL_MAX_READY` and `POOL_FOLLOW` (as many as jobs took of late, up to so many), `POOL_SCHEDULE` and
`POOL_TIME_ZONE` (times at which it is another number), `POOL_MAX` (pools start none while the provider holds
so many; its own bound), `POOL_IDLE_TIMEOUT` (a worker that waits beyond those is let go;
`HODEI_WORKER_IDLE_TIMEOUT`), `POOLS` (more of them, by image and size). See
[providers](providers.md#warm-workers).

And every provider may have prices, `PRICE_WORKER_HOUR`, `PRICE_CPU_HOUR`, `PRICE_GIB_HOUR`, `PRICE_GPU_HOUR`
(by a job's labels, too: `0.04,node=spot:0.012`), and `PLACING_ANNOTATIONS`, keys of annotations of
jobs that are compared with its labels. See [placement](placement.md).
"""


class ProviderGroup(SettingsGroup):
    """Which providers there are."""

    title: ClassVar[str] = "Providers"
    page: ClassVar[str] = _PAGE

    providers: str = Field(
        "process",
        description="Providers, a list of `kind` or `name=kind`; the file's tables when it has any.",
    )
    worker_image: str = Field(
        "hodei-jobs-worker:latest", description="Image of workers in containers, on every provider that runs them."
    )
    worker_max_jobs: int = Field(1, ge=0, description="Jobs a worker runs before it goes; 0 is without end.")
    worker_idle_timeout: Duration = Field(300.0, description="A reused worker that waits for longer is let go.")

    _tables: Mapping[str, ProviderTable] = PrivateAttr(default_factory=dict)

    @property
    def provider_kinds(self) -> dict[str, str]:
        """The kind of each provider by its name: the list's, or the file's tables; and those that a variable enables.

        :raise SettingsError: a name or a variable can't be used.
        """
        if self._tables and "providers" not in self.model_fields_set:
            kinds = {name: table.kind for name, table in self._tables.items()}
        else:
            kinds = named_kinds(self.providers, self._tables)
        try:
            return kinds | {kind: kind for kind in enabled_kinds(os.environ) if kind not in kinds}
        except ConfigError as error:
            raise SettingsError(str(error)) from None

    @property
    def shared_options(self) -> dict[str, str]:
        """Options that providers have in common."""
        return {"worker_image": self.worker_image}

    def provider_options(self, name: str) -> dict[str, Given]:
        """What is given to a provider alone, by option."""
        return self._own_options(lambda option: not is_pool_option(option) and not is_placing_option(option))[name]

    def provider_config(self, name: str) -> dict[str, Given]:
        """All that is given to a provider, by option; what its kind has no class for is what it alone is given."""
        own, config = self.provider_options(name), known_configs().get(self.provider_kinds[name])
        if config is None:
            return own
        return given_options(config, environment=os.environ, own=own, shared=self.shared_options)

    def server_options(self, name: str) -> dict[str, Given]:
        """What is given of a provider that the server itself goes by, by option: its pools, its prices."""
        return self._own_options(lambda option: is_pool_option(option) or is_placing_option(option))[name]

    @property
    def nobodys_options(self) -> list[str]:
        """Variables of providers that there are not."""
        return options_by_provider(os.environ, self.provider_kinds, self._tables)[1]

    @property
    def pools(self) -> dict[str, PoolSettings]:
        """What each provider's pools of ready workers are to hold.

        :raise SettingsError: an option can't be used.
        """
        self._refuse_nobodys("_POOL")
        return read_pools(self._own_options(is_pool_option), self.worker_idle_timeout)

    @property
    def placing(self) -> dict[str, PlacingSettings]:
        """Each provider's prices and keys of annotations.

        :raise SettingsError: an option can't be used.
        """
        self._refuse_nobodys("_PRICE_", "_PLACING_")
        return read_placing(self._own_options(is_placing_option))

    def _own_options(self, wanted: Callable[[str], bool]) -> dict[str, dict[str, Given]]:
        """Return those of the options that each provider alone is given."""
        own, _ = options_by_provider(os.environ, self.provider_kinds, self._tables)
        return {
            name: {option: given for option, given in options.items() if wanted(option)}
            for name, options in own.items()
        }

    def _refuse_nobodys(self, *parts: str) -> None:
        lost = [name for name in self.nobodys_options if any(part in name for part in parts)]
        if lost:
            raise SettingsError("\n".join(f"{name}: there is no provider of this name" for name in lost))
