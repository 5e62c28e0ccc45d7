"""Finds providers by the entry point group ``hodei.providers``.

Errors:

    ProviderSetupError             a provider can't be made as the settings say
    ├── UnknownProviderError       there is no such kind
    ├── MissingExtraError          its packages are not installed; the message says how
    └── ProviderOptionError        an option is unknown or can't be read
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from hodei_providers.config import (
    ConfigError,
    Given,
    given_options,
    known_configs,
    own_variable,
    read_config,
    renamed,
)
from hodei_providers.contract import Provider

GROUP = "hodei.providers"


class ProviderSetupError(ValueError):
    """A provider can't be made as the settings say."""


class UnknownProviderError(ProviderSetupError):
    """There is no such kind of provider."""


class MissingExtraError(ProviderSetupError):
    """A provider's packages are not installed."""


class ProviderOptionError(ProviderSetupError):
    """An option is unknown or can't be read."""


def known_kinds() -> list[str]:
    """Return the kinds of providers that are installed."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load_provider(
    kind: str,
    name: str,
    *,
    data_dir: Path,
    options: Mapping[str, Given],
    environment: Mapping[str, str] | None = None,
    shared: Mapping[str, str] | None = None,
) -> Provider:
    """Make a provider. A kind with a config class (see `hodei_providers.config`) is given one, others their options.

    :param name: what jobs call it.
    :param data_dir: where it may keep files of its own.
    :param options: of this provider alone, by option in lower case.
    :param environment: where a kind with a config class finds its own variables.
    :param shared: defaults that all kinds have in common, by option.
    :raise ProviderSetupError: see the module.
    """
    found = next((entry for entry in entry_points(group=GROUP) if entry.name == kind), None)
    if found is None:
        known = ", ".join(known_kinds()) or "none"
        raise UnknownProviderError(f"there is no provider of kind {kind!r}; installed are: {known}")
    try:
        factory = cast("Callable[..., Provider]", found.load())
    except ImportError as error:
        raise MissingExtraError(
            f"the provider {kind!r} needs {error.name}: pip install 'hodei-jobs[{kind}]'"
        ) from error
    config = known_configs().get(kind)
    if config is None:
        try:
            return factory(name, data_dir=data_dir, options={key: each.text for key, each in options.items()})
        except ProviderOptionError as error:
            written = {own_variable(name, key): each.variable for key, each in options.items()}
            raise ProviderOptionError(renamed(str(error), written)) from None
    given = given_options(config, environment=environment or {}, own=options, shared=shared or {})
    try:
        return factory(name, data_dir=data_dir, config=read_config(config, given))
    except ConfigError as error:
        raise ProviderOptionError(str(error)) from None


def take_options(
    name: str, options: Mapping[str, str], readers: Mapping[str, Callable[[str], object]]
) -> dict[str, object]:
    """Read a provider's options.

    :param readers: for each known option what reads it; a reader raises ValueError on what it can't read.
    :raise ProviderOptionError: names the option and what is wrong with it.
    """
    taken: dict[str, object] = {}
    for option, text in options.items():
        variable = own_variable(name, option)
        if option not in readers:
            raise ProviderOptionError(f"{variable}: there is no such option; known are: {', '.join(sorted(readers))}")
        try:
            taken[option] = readers[option](text)
        except ValueError as error:
            raise ProviderOptionError(f"{variable}: {text!r} can't be read: {error}") from None
    return taken
