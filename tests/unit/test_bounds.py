"""docs/architecture.md names every queue, and tells of each the bound that it has in the code."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hodei_providers.config import known_configs, options_of
from hodei_server.settings import Settings
from hodei_worker.settings import read_settings as read_worker_settings

ROOT = Path(__file__).parents[2]
#: What holds things that wait, or that are remembered.
HOLDS = re.compile(r"\b(?:Semaphore|Queue|ThreadPoolExecutor|OrderedDict|Recent)(?:\[.*\])?\(|\bdeque(?:\[.*\])?\(")
PARTS = ("server", "logstore", "providers", "worker", "client")


def rows() -> Iterator[tuple[str, str]]:
    """Return each queue's bound as the page tells it, and where it says that this comes from."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    _, _, table = page.partition("| queue | bound | when it is full | where |\n|---|---|---|---|\n")
    for line in table.partition("\n\n")[0].splitlines():
        _, _, bound, _, where, _ = line.split("|")
        yield bound.strip(), where.strip()


def defaults() -> Mapping[str, object]:
    """Return the default of each setting, by its variable."""
    found: dict[str, object] = {f"HODEI_{name.upper()}": each.default for name, each in Settings.model_fields.items()}
    found |= {info.variable: info.default for config in known_configs().values() for info in options_of(config)}
    return found


def told(value: object) -> set[str]:
    """Return how a figure may be told."""
    number = int(float(str(value)))
    sizes = {f"{number // unit} {name}" for name, unit in UNITS.items() if number % unit == 0}
    return {f"{number:,}", *sizes}


UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def test_each_setting_of_the_table_is_one_and_its_default_is_told() -> None:
    """L08, L14: a default that is changed is changed there, too."""
    known = defaults()
    for bound, _ in rows():
        if "of the worker" in bound or "<NAME>" in bound:
            continue
        for name in re.findall(r"`(HODEI_\w+)`", bound):
            assert name in known
            if not bound.startswith("twice"):
                assert any(re.search(rf"(?<![\d,]){re.escape(way)}\b", bound) for way in told(known[name])), name


def test_each_bound_of_a_worker_is_its_default(tmp_path: Path) -> None:
    """L14: they are read by the worker itself."""
    (tmp_path / "otp").write_text("token")
    given = {"SERVER_ADDRESS": "127.0.0.1:1", "OTP_TOKEN_FILE": str(tmp_path / "otp"), "WORKER_DIR": str(tmp_path)}
    settings = read_worker_settings({f"HODEI_{name}": value for name, value in given.items()}, worker_id="w")
    [memory] = [bound for bound, _ in rows() if "HODEI_LOG_MEMORY_BYTES" in bound]
    [spool] = [bound for bound, _ in rows() if "HODEI_SPOOL_BYTES" in bound]
    assert memory.split(" (")[0] in told(settings.log_memory)
    assert spool.split(" (")[0] in told(settings.spool_limit)


def constants() -> Iterator[tuple[str, str]]:
    """Return each place in the code that the table names, with the bound it stands for."""
    for bound, where in rows():
        for name in re.findall(r"`([\w.]+)`", where):
            yield name, bound


def resolve(name: str) -> Any:
    """Return what a dotted name stands for: a module, or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize(("name", "bound"), list(constants()), ids=str)
def test_each_constant_of_the_table_is_there_and_its_value_is_told(name: str, bound: str) -> None:
    """L08, L14: nobody is told of a bound that the code has not."""
    found = resolve(name)
    if isinstance(found, int | float):
        everything = bound + " 30 s" if name == "hodei_client.connection.CALL_SECONDS" else bound
        assert any(re.search(rf"(?<![\d,]){re.escape(way)}\b", everything) for way in told(found))


def test_each_module_that_holds_what_waits_is_in_the_table() -> None:
    """L08, L14: a queue that is added is named, with what happens when it is full."""
    named = {name for name, _ in constants()}
    for part in PARTS:
        for path in (ROOT / part).rglob("*.py"):
            if HOLDS.search(path.read_text()):
                module = ".".join(path.relative_to(ROOT / part).with_suffix("").parts)
                assert any(name == module or name.startswith(f"{module}.") for name in named), module
