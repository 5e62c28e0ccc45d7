"""The server's settings: one object, read once from `HODEI_*` variables and a file, handed down.

``python -m hodei_server.settings`` prints docs/configuration.md.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from hodei.address import Address, parse_address
from hodei.quantities import format_duration, format_size, parse_duration, parse_size
from hodei_providers.config import (
    ConfigError,
    Given,
    enabled_kinds,
    enabling_variable,
    given_options,
    known_configs,
    options_of,
    own_variable,
    shown_options,
)
from hodei_server.domain.fairness import Limits
from hodei_server.placing_settings import (
    PlacingSettings,
    PlacingSettingsError,
    is_placing_option,
    read_limits,
    read_placing,
)
from hodei_server.pool_settings import PoolSettings, PoolSettingsError, is_pool_option, read_pools
from hodei_server.provider_settings import (
    PAGE,
    ProviderSettingsError,
    ProviderTable,
    named_kinds,
    options_by_provider,
    read_tables,
)

PREFIX = "HODEI_"
#: Read by the client and the worker, not by the server.
_OTHERS = frozenset(["HODEI_SERVER", "HODEI_TENANT", "HODEI_CONFIG_FILE", "HODEI_TLS_CA", "HODEI_K8S_TEST"])


class SettingsError(ValueError):
    """Settings that can't be used; one line for each, naming the variable."""


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _optional_path(value: object) -> object:
    return None if value == "" else value


Duration = Annotated[float, BeforeValidator(_duration), Field(ge=0)]
Size = Annotated[int, BeforeValidator(_size), Field(ge=0)]
OptionalPath = Annotated[Path | None, BeforeValidator(_optional_path)]


def _durations(text: str) -> dict[str, float]:
    """Read a list of `name=duration`."""
    found: dict[str, float] = {}
    for entry in filter(None, (each.strip() for each in text.split(","))):
        name, sign, duration = (part.strip() for part in entry.partition("="))
        if not name or not sign or name in found:
            raise ValueError(f"{entry!r} is no tenant=duration, or the tenant's second one")
        found[name] = parse_duration(duration)
    return found


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "hodei"


class Settings(BaseSettings):
    """Every setting of the server. Durations are seconds and sizes bytes once read."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    listen: str = Field("127.0.0.1:50051", description="Where clients connect; `https://` wants `tls_cert`.")
    worker_listen: str = Field(
        "127.0.0.1:50052", description="Where workers connect; nothing else is served there. Port 0 takes any."
    )
    worker_address: str = Field(
        "", description="The worker listener as workers see it; from `worker_listen` when empty."
    )
    health_listen: str = Field(
        "", description="Where `grpc.health.v1` alone is answered, without TLS, for probes; nowhere when empty."
    )
    metrics_listen: str = Field(
        "", description="Where `/metrics` is served as Prometheus' text, without TLS; nowhere when empty."
    )
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Database, logs and workers' folders. Default: `$XDG_DATA_HOME/hodei` or `~/.local/share/hodei`.",
    )
    database_url: str = Field("", description="`postgresql://…`; SQLite under `data_dir` when empty.")
    durability: Literal["power", "process"] = Field(
        "power", description="What an acknowledgement survives: a power cut (fsync), or the server's process."
    )
    log_level: Literal["error", "warn", "info", "debug"] = Field("info", description="Of the server's own log.")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="JSON where no person reads it.")
    tls_cert: OptionalPath = Field(None, description="Certificate of the clients' listener, PEM; with `tls_key`.")
    tls_key: OptionalPath = Field(None, description="Its key, PEM.")
    tls_client_ca: OptionalPath = Field(None, description="Clients must show a certificate of this authority, PEM.")
    worker_tls_cert: OptionalPath = Field(None, description="Certificate of the workers' listener, PEM.")
    worker_tls_key: OptionalPath = Field(None, description="Its key, PEM.")
    worker_tls_ca: OptionalPath = Field(None, description="The authority that workers trust, given to them, PEM.")
    allow_plaintext: bool = Field(
        default=False, description="Listen without TLS where other machines can connect (a trusted network)."
    )
    log_compression: bool = Field(default=False, description="Compress log streams to other machines (gzip).")
    providers: str = Field(
        "process",
        description="Providers, a list of `kind` or `name=kind`; the file's tables when it has any.",
    )
    worker_image: str = Field(
        "hodei-jobs-worker:latest", description="Image of workers in containers, on every provider that runs them."
    )
    strategy: str = Field(
        "fastest-startup",
        description="How a provider is chosen where the job does not say: `lowest-cost`, `fastest-startup`, "
        "`most-capacity`, `healthiest`, `by-labels`, or the name of one that is installed.",
    )
    priority_ageing: Duration = Field(
        60.0, description="A point of a job's priority is worth so much waiting among its tenant's jobs."
    )
    slip: Duration = Field(
        60.0, description="Smaller jobs may slip past one that does not fit for so long; then room is kept for it."
    )
    slip_hold: Duration = Field(
        600.0, description="Room is kept for so long; then others have their turn for as long again."
    )
    tenant_weights: str = Field(
        "", description="Tenants' shares, `TENANT=WEIGHT,…`; `*` is every other tenant; 1 where none is given."
    )
    tenant_max_jobs: str = Field("", description="Jobs that a tenant has running at most, `TENANT=COUNT,…`.")
    tenant_max_cpu: str = Field("", description="Processors that its running jobs ask for at most, `TENANT=CPU,…`.")
    tenant_max_memory: str = Field("", description="Memory that its running jobs ask for at most, `TENANT=SIZE,…`.")
    max_queued_jobs: int = Field(1_000_000, ge=1, description="Further submissions are refused.")
    max_follows_per_job: int = Field(2000, ge=1, description="Log streams of one job at once.")
    max_follows_per_client: int = Field(5000, ge=1, description="Log streams of one client's address at once.")
    start_timeout: Duration = Field(300.0, description="From dispatch to the process's start.")
    cancel_grace: Duration = Field(10.0, description="Between SIGTERM and SIGKILL where the job does not say.")
    run_margin: Duration = Field(
        30.0, description="What a worker gets beyond run timeout and grace before it is removed."
    )
    lease: Duration = Field(30.0, description="A worker silent for longer is asked for at its provider.")
    ping_interval: Duration = Field(
        10.0, gt=0, lt=60, description="Between pings of worker and server, both ways; under a minute."
    )
    orphan_after: Duration = Field(600.0, description="Without an acknowledged ping for so long a worker ends its job.")
    log_budget: Size = Field(
        1 << 30, ge=1 << 16, description="Bytes of log kept per attempt where the job does not say."
    )
    log_segment: Size = Field(64 << 20, ge=1 << 16, description="Bytes of log per segment.")
    log_pending: Size = Field(
        16 << 20, ge=1 << 20, description="Bytes of a log that may wait in memory to be durable; then its worker waits."
    )
    log_recent: Size = Field(
        2 << 20, ge=0, description="Bytes of a log's durable end kept in memory; slower followers read the store."
    )
    log_memory: Size = Field(
        256 << 20, ge=1 << 20, description="Bytes of both, for all logs together, and one block a log beyond it."
    )
    log_ttl: Duration = Field(
        7 * 86400.0, description="How long logs are kept after a job's end where it does not say."
    )
    log_ttl_tenants: str = Field("", description="The same for some tenants, a list of `tenant=duration`.")
    job_ttl: Duration = Field(
        90 * 86400.0, description="How long an ended job is kept after its end, and never less than its logs."
    )
    log_segment_age: Duration = Field(
        600.0, gt=0, description="With `s3_bucket`: a segment of a running job ends when it is older, and goes to S3."
    )
    log_wait: Duration = Field(60.0, description="How long an ended attempt waits for the rest of its log.")
    worker_max_jobs: int = Field(1, ge=0, description="Jobs a worker runs before it goes; 0 is without end.")
    worker_idle_timeout: Duration = Field(300.0, description="A reused worker that waits for longer is let go.")
    stray_grace: Duration = Field(
        60.0, description="Workers of this installation that it does not know are removed after so long."
    )
    drain_timeout: Duration = Field(10.0, description="How long open calls may go on when the server ends.")
    retention_interval: Duration = Field(60.0, gt=0, description="Between looks for logs to remove.")
    s3_bucket: str = Field("", description="Sealed segments of logs go there and leave the disk; nowhere when empty.")
    s3_prefix: str = Field("", description="Stands before every name in the bucket, and before the installation's id.")
    s3_region: str = Field("", description="By AWS's own settings when empty, as `s3_endpoint`.")
    s3_endpoint: str = Field("", description="URL of a server that speaks S3.")
    s3_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="Whether the bucket's name stands in the path or in the host's name."
    )
    s3_storage_class: str = Field("", description="`STANDARD_IA`, …; the bucket's default when empty.")
    s3_encryption: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = Field(
        "", description="Server-side encryption; the bucket's default when empty."
    )
    s3_encryption_key: str = Field("", description="Id of the KMS key; AWS's own when empty.")
    s3_multipart_size: Size = Field(
        64 << 20, ge=5 << 20, le=5 << 30, description="Larger objects go in parts of so many bytes."
    )
    s3_concurrency: int = Field(8, ge=1, le=100, description="Calls at once, for storing and for reading each.")
    s3_connect_timeout: Duration = Field(5.0, gt=0, description="Until a connection is there.")
    s3_read_timeout: Duration = Field(30.0, gt=0, description="Of silence in a call.")

    _tables: Mapping[str, ProviderTable] = PrivateAttr(default_factory=dict)

    @field_validator("listen", "worker_listen", "health_listen", "metrics_listen")
    @classmethod
    def _check_address(cls, value: str, info: ValidationInfo) -> str:
        if value and parse_address(value).tls and info.field_name == "metrics_listen":
            raise ValueError("it is served without TLS: write host:port")
        return value

    @field_validator("strategy")
    @classmethod
    def _name_strategy(cls, value: str) -> str:
        """Take the names that were written with `_`, too."""
        name = value.replace("_", "-")
        return "by-labels" if name == "labels" else name

    @model_validator(mode="after")
    def _check_pairs(self) -> Settings:
        for cert, key in (("tls_cert", "tls_key"), ("worker_tls_cert", "worker_tls_key")):
            if bool(getattr(self, cert)) != bool(getattr(self, key)):
                raise ValueError(f"{PREFIX}{cert.upper()} and {PREFIX}{key.upper()} go together")
        if self.s3_encryption_key and not self.s3_encryption.startswith("aws:kms"):
            raise ValueError(f"{PREFIX}S3_ENCRYPTION_KEY needs {PREFIX}S3_ENCRYPTION=aws:kms")
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError(f"{PREFIX}TLS_CLIENT_CA needs {PREFIX}TLS_CERT and {PREFIX}TLS_KEY")
        return self

    @field_validator("log_ttl_tenants")
    @classmethod
    def _check_tenants(cls, value: str) -> str:
        _durations(value)
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _check_endpoint(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^/]+/?", value):
            raise ValueError("is a URL: https://host or http://host:port")
        return value

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
        settings, _ = _read_file()
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=settings)

    @property
    def embedded_database(self) -> bool:
        """Whether the database is the server's own file."""
        return not self.database_url

    @property
    def resolved_database_url(self) -> str:
        """The database's address, SQLite under the data folder where none is given."""
        return self.database_url or f"sqlite:///{self.data_dir / 'hodei.db'}"

    @property
    def log_ttl_of_tenants(self) -> dict[str, float]:
        """How long logs of some tenants are kept, in seconds."""
        return _durations(self.log_ttl_tenants)

    @property
    def address(self) -> Address:
        """Where clients connect."""
        return parse_address(self.listen)

    @property
    def provider_kinds(self) -> dict[str, str]:
        """The kind of each provider by its name: the list's, or the file's tables; and those that a variable enables.

        :raise SettingsError: a name or a variable can't be used.
        """
        try:
            if self._tables and "providers" not in self.model_fields_set:
                kinds = {name: table.kind for name, table in self._tables.items()}
            else:
                kinds = named_kinds(self.providers, self._tables)
            return kinds | {kind: kind for kind in enabled_kinds(os.environ) if kind not in kinds}
        except (ConfigError, ProviderSettingsError) as error:
            raise SettingsError(str(error)) from None

    @property
    def shared_options(self) -> dict[str, str]:
        """Options that providers have in common."""
        return {"worker_image": self.worker_image}

    def provider_options(self, name: str) -> dict[str, Given]:
        """What is given to a provider alone, by option."""
        own, _ = self._own_options()
        return {
            option: given
            for option, given in own[name].items()
            if not is_pool_option(option) and not is_placing_option(option)
        }

    def provider_config(self, name: str) -> dict[str, Given]:
        """All that is given to a provider, by option; what its kind has no class for is what it alone is given."""
        own, config = self.provider_options(name), known_configs().get(self.provider_kinds[name])
        if config is None:
            return own
        return given_options(config, environment=os.environ, own=own, shared=self.shared_options)

    def _own_options(self) -> tuple[dict[str, dict[str, Given]], list[str]]:
        return options_by_provider(os.environ, self.provider_kinds, self._tables)

    @property
    def nobodys_options(self) -> list[str]:
        """Variables of providers that there are not."""
        return self._own_options()[1]

    @property
    def pool_options(self) -> dict[str, dict[str, Given]]:
        """What is given of each provider's pools, by option."""
        own, _ = self._own_options()
        return {
            name: {option: given for option, given in options.items() if is_pool_option(option)}
            for name, options in own.items()
        }

    @property
    def pools(self) -> dict[str, PoolSettings]:
        """What each provider's pools of ready workers are to hold.

        :raise SettingsError: an option can't be used.
        """
        lost = [f"{name}: there is no provider of this name" for name in self.nobodys_options if "_POOL" in name]
        if lost:
            raise SettingsError("\n".join(lost))
        try:
            return read_pools(self.pool_options, self.worker_idle_timeout)
        except PoolSettingsError as error:
            raise SettingsError(str(error)) from None

    @property
    def placing(self) -> dict[str, PlacingSettings]:
        """Each provider's prices and keys of annotations.

        :raise SettingsError: an option can't be used.
        """
        own, lost = self._own_options()
        wrong = [name for name in lost if "_PRICE_" in name or "_PLACING_" in name]
        if wrong:
            raise SettingsError("\n".join(f"{name}: there is no provider of this name" for name in wrong))
        try:
            return read_placing(
                {
                    name: {option: given for option, given in options.items() if is_placing_option(option)}
                    for name, options in own.items()
                }
            )
        except PlacingSettingsError as error:
            raise SettingsError(str(error)) from None

    @property
    def limits(self) -> dict[str, Limits]:
        """Weights and caps of tenants.

        :raise SettingsError: one can't be used.
        """
        try:
            return read_limits(self.tenant_weights, self.tenant_max_jobs, self.tenant_max_cpu, self.tenant_max_memory)
        except PlacingSettingsError as error:
            raise SettingsError(str(error)) from None


def _read_file() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the file that HODEI_CONFIG_FILE names, and its tables of providers.

    :raise SettingsError: it can't be read.
    """
    file = os.environ.get("HODEI_CONFIG_FILE")
    if not file:
        return {}, {}
    try:
        settings = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"HODEI_CONFIG_FILE: there is no file {file}") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"HODEI_CONFIG_FILE: {file} can't be read: {error}") from None
    tables = settings.pop("providers") if isinstance(settings.get("providers"), dict) else {}
    return settings, tables


def load_settings(overrides: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    :param overrides: by name, as the command line gives them; they win.
    :raise SettingsError: a line for each that can't be used.
    """
    try:
        given: dict[str, Any] = dict(overrides or {})
        settings = Settings(**given)
        settings._tables = read_tables(_read_file()[1])  # noqa: SLF001 - no setting of its own: no variable holds it
    except ValidationError as error:
        raise SettingsError("\n".join(_line(each) for each in error.errors())) from None
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return settings


def _line(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    name = f"{PREFIX}{str(error['loc'][0]).upper()}"
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    return f"{name}: {error['input']!r} can't be used: {message}"


def unknown_variables(environment: Mapping[str, str], nobodys: Iterable[str] = ()) -> list[str]:
    """Return the `HODEI_*` variables that nothing of Hodei reads: typing errors, most likely.

    :param nobodys: options of providers that there are not.
    """
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | _OTHERS
    for kind in known_configs().values():
        known |= {enabling_variable(kind), *(info.variable for info in options_of(kind))}
    return sorted(
        name
        for name in environment
        if name.startswith(PREFIX)
        and name not in known
        and not name.startswith("HODEI_TEST_")
        and not (name.startswith("HODEI_PROVIDER_") and name not in nobodys)
    )


def show(settings: Settings) -> dict[str, str]:
    """Return every setting as it would be written, without secrets; those of the enabled providers too."""
    shown: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if name == "database_url":
            value = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", value)
        shown[name] = _written(field.metadata, value)
    kinds, configs, pools = settings.provider_kinds, known_configs(), settings.pool_options
    shown["providers"] = ",".join(name if name == kind else f"{name}={kind}" for name, kind in kinds.items())
    for name, kind in kinds.items():
        given = settings.provider_config(name)
        alone = name == kind and list(kinds.values()).count(kind) == 1
        if kind in configs:
            options = list(shown_options(configs[kind], name, given, only_one=alone))
        else:
            options = [(own_variable(name, option), each.text) for option, each in given.items()]
        options += [(own_variable(name, option), each.text) for option, each in pools[name].items()]
        shown |= {variable.removeprefix(PREFIX).lower(): text for variable, text in options}
    return shown


def _written(metadata: list[Any], value: Any) -> str:
    readers = {entry.func for entry in metadata if isinstance(entry, BeforeValidator)}
    if value is None:
        return ""
    if _duration in readers:
        return format_duration(value)
    if _size in readers:
        return format_size(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def markdown() -> str:
    """Return docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "The server reads these variables once, at its start. The same names in lower case and without the prefix may",
        "stand in a TOML file that `HODEI_CONFIG_FILE` names; a variable wins over the file, an option of the command",
        "line over both. An empty variable is none. `hodei config show` prints what is in force, as variables.",
        "Durations are written `90s`, `5m`, `1h30m`, sizes `64Mi`, `2Gi`.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory is not None else _written(field.metadata, field.default)
        lines.append(f"| `{PREFIX}{name.upper()}` | {f'`{default}`' if default else ''} | {field.description} |")
    lines += [
        "",
        "Clients and the command line read `HODEI_SERVER`, `HODEI_TLS_CA`, `HODEI_TLS_CERT`, `HODEI_TLS_KEY`,",
        "`HODEI_ALLOW_PLAINTEXT` and `HODEI_TENANT`. Workers are configured by their provider; see",
        "[the worker's protocol](worker-protocol.md).",
        "",
        *PAGE.splitlines(),
        "Options of the process provider: `MAX_WORKERS`, `LABELS` (`key=value,…`), `REGIONS`, `COST_PER_HOUR`,",
        "`WORKER_COMMAND`; for the provider named `process`, `HODEI_PROVIDER_PROCESS_MAX_WORKERS=16`.",
        "",
        "Every provider may have pools of ready workers: `POOL_MIN_READY` (how many wait, started ahead of jobs; 0),",
        "`POOL_MAX_READY` and `POOL_FOLLOW` (as many as jobs took of late, up to so many), `POOL_SCHEDULE` and",
        "`POOL_TIME_ZONE` (times at which it is another number), `POOL_MAX` (pools start none while the provider holds",
        "so many; its own bound), `POOL_IDLE_TIMEOUT` (a worker that waits beyond those is let go;",
        "`HODEI_WORKER_IDLE_TIMEOUT`), `POOLS` (more of them, by image and size). See",
        "[providers](providers.md#warm-workers).",
        "",
        "And every provider may have prices, `PRICE_WORKER_HOUR`, `PRICE_CPU_HOUR`, `PRICE_GIB_HOUR`, `PRICE_GPU_HOUR`",
        "(by a job's labels, too: `0.04,node=spot:0.012`), and `PLACING_ANNOTATIONS`, keys of annotations of",
        "jobs that are compared with its labels. See [placement](placement.md).",
        "",
    ]
    for kind, config in known_configs().items():
        lines += [
            f"## {kind}",
            "",
            f"`{enabling_variable(config)}=true` adds a provider named `{kind}`. These variables are for every",
            "provider of the kind; see [providers](#providers) for options of one.",
            "",
            "| variable | default | meaning |",
            "|---|---|---|",
            *(
                f"| `{info.variable}` | {f'`{info.default}`' if info.default else ''} | {info.description} |"
                for info in options_of(config)
            ),
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(markdown())
