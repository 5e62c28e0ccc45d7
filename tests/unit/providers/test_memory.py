"""The provider in memory passes the suite, and finds entry points."""

from __future__ import annotations

from pathlib import Path

import pytest

from hodei_providers.config import Given
from hodei_providers.contract import LaunchRequest, Provider
from hodei_providers.memory import MemoryProvider, MemoryWorker
from hodei_providers.registry import ProviderOptionError, UnknownProviderError, known_kinds, load_provider
from hodei_providers.testing import EndWorker, MakeProvider, ProviderContract


class TestMemoryProvider(ProviderContract):
    @pytest.fixture
    def make_provider(self) -> MakeProvider:
        """Return providers over one dictionary."""
        shared: dict[str, MemoryWorker] = {}
        return lambda: MemoryProvider(infrastructure=shared)

    @pytest.fixture
    def end_worker(self) -> EndWorker:
        """Have a worker exit."""

        async def end(provider: Provider, request: LaunchRequest, code: int) -> None:
            assert isinstance(provider, MemoryProvider)
            provider.end(request.worker_id, code)

        return end


def test_installed_providers_are_found_by_their_kind(tmp_path: Path) -> None:
    """By the entry point that third parties use, too."""
    assert "process" in known_kinds()
    options = {key: Given(key, text) for key, text in (("max_workers", "3"), ("labels", "a=b"))}
    provider = load_provider("process", "local", data_dir=tmp_path, options=options)
    assert (provider.name, provider.capabilities().max_workers) == ("local", 3)
    assert provider.capabilities().labels == {"a": "b"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_wrokers": "3"}, "HODEI_PROVIDER_LOCAL_MAX_WROKERS: there is no such option"),
        ({"max_workers": "none"}, "HODEI_PROVIDER_LOCAL_MAX_WORKERS"),
        ({"max_workers": "0"}, "at least 1"),
        ({"cost_per_hour": "nan"}, "not negative"),
        ({"cost_per_hour": "-1"}, "not negative"),
        ({"labels": "a"}, "key=value"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: dict[str, str], words: str) -> None:
    """As the variable it was written in."""
    given = {key: Given(f"HODEI_PROVIDER_LOCAL_{key.upper()}", text) for key, text in options.items()}
    with pytest.raises(ProviderOptionError, match=words):
        load_provider("process", "local", data_dir=tmp_path, options=given)
    given = {key: Given(f"providers.local.{key}", text) for key, text in options.items()}
    with pytest.raises(ProviderOptionError, match=rf"^providers\.local\.{next(iter(options))}: "):
        load_provider("process", "local", data_dir=tmp_path, options=given)


def test_an_unknown_kind_is_told_with_what_there_is(tmp_path: Path) -> None:
    """A typing error is found at the start."""
    with pytest.raises(UnknownProviderError, match="process"):
        load_provider("proces", "x", data_dir=tmp_path, options={})
