"""How kinds of providers are configured: a frozen dataclass each, whose fields say what reads them and what they mean.

    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class MyConfig:
        prefix: ClassVar[str] = "HODEI_MINE_"
        host: str = option("", "Where it is.", str)

A kind declares its class by the entry point group ``hodei.provider_configs``. ``<prefix>ENABLED`` enables a provider
that is named like its kind; ``<prefix><OPTION>`` is for every provider of the kind; ``HODEI_PROVIDER_<NAME>_<OPTION>``,
or a key of the configuration file's table ``[providers.<name>]``, is for one of them and wins. The module of the class
imports no SDK: settings are read, shown and documented without any.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol, TypeVar, cast

from hodei.quantities import parse_duration, parse_size

GROUP = "hodei.provider_configs"

T = TypeVar("T")


class ProviderConfig(Protocol):
    """What a class of `GROUP` is, besides a frozen dataclass of `option` fields with defaults.

    :cvar prefix: of its variables, such as ``HODEI_DOCKER_``.
    :cvar enabled_by: the variable that enables the kind, if it is not ``<prefix>ENABLED``.
    """

    prefix: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


C = TypeVar("C", bound=ProviderConfig)


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """What was given for an option.

    :param variable: which it was given by, or the file's key (``providers.<name>.<option>``).
    """

    variable: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class OptionInfo:
    """What is known of one option.

    :param default: as it would be written.
    """

    name: str
    variable: str
    default: str
    description: str
    secret: bool


class ConfigError(ValueError):
    """Options that can't be used; one line for each, naming the variable or the file's key."""


def option(default: T, description: str, read: Callable[[str], T], *, written: str = "", secret: bool = False) -> T:
    """Return a field of a config class.

    :param description: one sentence of docs/configuration.md.
    :param read: raises ValueError with what is wrong; its text follows the variable's name.
    :param written: the default as a user would write it.
    :param secret: never shown.
    """
    metadata = {"read": read, "description": description, "written": written, "secret": secret}
    return dataclasses.field(default_factory=lambda: default, metadata=metadata)


def known_configs() -> dict[str, type[ProviderConfig]]:
    """Return the config class of every kind that declares one."""
    return {entry.name: entry.load() for entry in sorted(entry_points(group=GROUP), key=lambda each: each.name)}


def enabling_variable(kind: type[ProviderConfig]) -> str:
    """Return the variable that enables a kind."""
    return str(getattr(kind, "enabled_by", f"{kind.prefix}ENABLED"))


def options_of(kind: type[ProviderConfig]) -> list[OptionInfo]:
    """Return what can be set."""
    return [
        OptionInfo(
            field.name,
            f"{kind.prefix}{field.name.upper()}",
            field.metadata["written"],
            field.metadata["description"],
            field.metadata["secret"],
        )
        for field in dataclasses.fields(cast("Any", kind))
    ]


def own_variable(name: str, option_name: str) -> str:
    """Return the variable of one provider's option."""
    return f"HODEI_PROVIDER_{name.upper().replace('-', '_')}_{option_name.upper()}"


def renamed(message: str, names: Mapping[str, str]) -> str:
    """Return a message with variables called by what was really written.

    :param names: by variable.
    """
    if not names:
        return message
    known = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")
    return known.sub(lambda found: names[found[0]], message)


def enabled_kinds(environment: Mapping[str, str]) -> list[str]:
    """Return the kinds that a variable ``<prefix>ENABLED`` enables.

    :raise ConfigError: such a variable is neither true nor false.
    """
    found = []
    for kind, config in known_configs().items():
        variable = enabling_variable(config)
        text = environment.get(variable, "")
        try:
            if text and boolean(text):
                found.append(kind)
        except ValueError as error:
            raise ConfigError(f"{variable}: {text!r} can't be used: {error}") from None
    return found


def given_options(
    kind: type[ProviderConfig],
    *,
    environment: Mapping[str, str],
    own: Mapping[str, Given],
    shared: Mapping[str, str],
) -> dict[str, Given]:
    """Return what was given for a provider's options.

    :param own: of this provider alone, by option.
    :param shared: defaults that all kinds have in common (``worker_image``), by option.
    """
    found: dict[str, Given] = {}
    for info in options_of(kind):
        if shared.get(info.name):
            found[info.name] = Given(f"HODEI_{info.name.upper()}", shared[info.name])
        if environment.get(info.variable):
            found[info.name] = Given(info.variable, environment[info.variable])
    return found | dict(own)


def written_names(kind: type[ProviderConfig], given: Mapping[str, Given]) -> dict[str, str]:
    """Return by what each given option was given, by its kind's variable; see `renamed`."""
    return {info.variable: given[info.name].variable for info in options_of(kind) if info.name in given}


def read_config(kind: type[C], given: Mapping[str, Given]) -> C:
    """Read a provider's options.

    :raise ConfigError: a line for each that is not known or can't be read.
    """
    fields = {field.name: field for field in dataclasses.fields(cast("Any", kind))}
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for name, each in given.items():
        if name not in fields:
            wrong.append(f"{each.variable}: there is no such option; known are: {', '.join(sorted(fields))}")
            continue
        try:
            values[name] = fields[name].metadata["read"](each.text)
        except ValueError as error:
            shown = "the value" if fields[name].metadata["secret"] else repr(each.text)
            wrong.append(f"{each.variable}: {shown} can't be used: {error}")
    if wrong:
        raise ConfigError("\n".join(wrong))
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(renamed(str(error), written_names(kind, given))) from None


# Readers


def boolean(text: str) -> bool:
    """Read true or false."""
    if text.lower() not in {"true", "false", "1", "0"}:
        raise ValueError("it is true or false")
    return text.lower() in {"true", "1"}


def count(text: str) -> int:
    """Read a number that is not negative."""
    number = int(text) if text.isascii() and text.isdigit() else -1
    if number < 0:
        raise ValueError("it is a whole number, not negative")
    return number


def positive(text: str) -> int:
    """Read a number from 1."""
    number = count(text)
    if number < 1:
        raise ValueError("it is at least 1")
    return number


def amount(text: str) -> float:
    """Read a number that is not negative and may have a fraction."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError("it is a number, not negative")
    return number


def duration(text: str) -> float:
    """Read seconds from ``90s``, ``5m``."""
    return parse_duration(text)


def size(text: str) -> int:
    """Read bytes from ``64Mi``, ``2Gi``."""
    return parse_size(text)


def words(text: str) -> tuple[str, ...]:
    """Read a list that is separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def pairs(text: str) -> Mapping[str, str]:
    """Read ``key=value,…``."""
    found = [part.partition("=") for part in words(text)]
    if any(not separator or not key.strip() for key, separator, _ in found):
        raise ValueError("write key=value,key=value")
    return {key.strip(): value.strip() for key, _, value in found}


def one_of(*choices: str) -> Callable[[str], str]:
    """Return what reads one of some words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"it is one of {', '.join(choices)}")
        return text

    return read


def each_of(read: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """Return what reads a list, separated by commas, of what `read` reads."""

    def read_all(text: str) -> tuple[T, ...]:
        return tuple(read(part) for part in words(text))

    return read_all


def shown_options(
    kind: type[ProviderConfig], name: str, given: Mapping[str, Given], *, only_one: bool = True
) -> Iterable[tuple[str, str]]:
    """Yield a variable for every option, with what is in force, without secrets.

    :param only_one: no other provider is of the kind and this one is named like it: defaults have the kind's variables.
    """
    for info in options_of(kind):
        each = given.get(info.name)
        text = info.default if each is None else each.text
        if each is not None and each.variable.startswith("HODEI_"):
            variable = each.variable
        else:
            variable = info.variable if only_one and each is None else own_variable(name, info.name)
        yield variable, ("***" if info.secret and text else text)
