"""Providers in the configuration file: several of a kind, each with its own options, named when wrong."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from hodei_cli.commands import cli
from hodei_providers.config import known_configs, read_config
from hodei_providers.docker.config import DockerConfig, Mount
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.registry import ProviderSetupError
from hodei_server.opening import open_providers
from hodei_server.settings import Settings, SettingsError, load_settings, show

THREE_HOSTS = """
lease = "20s"

[providers.eu-west]
kind = "docker"
host = "tcp://eu.example:2376"
max_workers = 20
read_only_root = false
container_labels = { team = "ops", tier = 1 }
mounts = ["/data:/data", "/etc/ssl:/etc/ssl:ro"]
cost_per_hour = 0.5
pool_min_ready = 2
pools = [{ image = "python:3", cpu = 1, min_ready = 1 }]

[providers.eu]
kind = "docker"
host = "tcp://other.example:2376"

[providers.docker]

[providers.cluster]
kind = "kubernetes"
namespace = "batch"
node_selector = { pool = "jobs" }
tolerations = [{ key = "pool", operator = "Exists" }]
affinity = { nodeAffinity = { requiredDuringSchedulingIgnoredDuringExecution = { nodeSelectorTerms = [] } } }

[providers.here]
kind = "process"
max_workers = 3
labels = { disk = "ssd" }
"""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this process's own settings away."""
    for name in [name for name in os.environ if name.startswith("HODEI_")]:
        monkeypatch.delenv(name)


class Load:
    """Writes a file and reads it."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = file
        monkeypatch.setenv("HODEI_CONFIG_FILE", str(file))

    def __call__(self, text: str, **overrides: str) -> Settings:
        """Return the settings of a file with this text."""
        self.file.write_text(text)
        return load_settings({"data_dir": str(self.file.parent), **overrides})


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return what reads the settings of a file."""
    return Load(tmp_path / "hodei.toml", monkeypatch)


def docker_config(settings: Settings, name: str) -> DockerConfig:
    """Return a provider's options, read."""
    return read_config(DockerConfig, settings.provider_config(name))


def test_each_table_is_a_provider_with_its_own_options(load: Load) -> None:
    """Numbers, booleans, lists and tables are read as their variables would be; the rest of the file counts, too."""
    settings = load(THREE_HOSTS)
    assert settings.lease == 20.0
    assert settings.provider_kinds == {
        "eu-west": "docker",
        "eu": "docker",
        "docker": "docker",
        "cluster": "kubernetes",
        "here": "process",
    }
    config = docker_config(settings, "eu-west")
    assert (config.host, config.max_workers, config.read_only_root) == ("tcp://eu.example:2376", 20, False)
    assert config.container_labels == {"team": "ops", "tier": "1"}
    assert config.mounts == (Mount("/data", "/data", read_only=False), Mount("/etc/ssl", "/etc/ssl", read_only=True))
    assert config.cost_per_hour == 0.5
    assert (docker_config(settings, "eu").host, docker_config(settings, "docker").host) == (
        "tcp://other.example:2376",
        "",
    )
    cluster = read_config(KubernetesConfig, settings.provider_config("cluster"))
    assert (cluster.namespace, cluster.node_selector) == ("batch", {"pool": "jobs"})
    assert cluster.tolerations == ({"key": "pool", "operator": "Exists"},)
    assert "nodeAffinity" in cluster.affinity
    ready = {name: [pool.min_ready for pool in each.pools] for name, each in settings.pools.items() if each.pools}
    assert ready == {"eu-west": [2, 1]}


def test_variables_win_over_the_file(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """One provider's own over its table, its table over its kind's, and each variable finds its provider."""
    monkeypatch.setenv("HODEI_PROVIDER_EU_WEST_HOST", "tcp://west.example:1")
    monkeypatch.setenv("HODEI_PROVIDER_EU_MAX_WORKERS", "7")
    monkeypatch.setenv("HODEI_DOCKER_MAX_WORKERS", "1")
    monkeypatch.setenv("HODEI_PROVIDER_EU_WEST_POOL_MIN_READY", "3")
    settings = load(THREE_HOSTS)
    assert docker_config(settings, "eu-west").host == "tcp://west.example:1"
    assert docker_config(settings, "eu").host == "tcp://other.example:2376"
    assert [docker_config(settings, name).max_workers for name in ("eu-west", "eu", "docker")] == [20, 7, 1]
    assert settings.pools["eu-west"].pools[0].min_ready == 3


def test_a_list_of_providers_chooses_from_the_file(load: Load) -> None:
    """What is not in the list is not there; what is not in the file is as without one."""
    settings = load(THREE_HOSTS, providers="eu,process,far=docker")
    assert settings.provider_kinds == {"eu": "docker", "process": "process", "far": "docker"}
    assert docker_config(settings, "eu").host == "tcp://other.example:2376"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[providers.Big]", r"providers\.Big: a name is"),
        ("[providers]\nbig = 'docker'", r"providers\.big: 'docker' can't be used: write a table"),
        ("[providers.big]\nMax_workers = 3", r"providers\.big\.Max_workers: 3 can't be used: .*lower case"),
        ("[providers.big]\nlabels = ['a,b']", r"providers\.big\.labels: .*can't be one of several"),
        ("[providers.big]\nlabels = { 'a=b' = 'c' }", r"providers\.big\.labels: .*can't be one of several"),
        ("[providers.big]\nhost = 2026-01-01", r"providers\.big\.host: .*it is a text"),
        ("providers = 'a b'", r"HODEI_PROVIDERS: 'a b' can't be used: a name is"),
        ("providers = '../x=process'", r"HODEI_PROVIDERS: '\.\./x' can't be used"),
        ("providers = 'a=process,a=docker'", "HODEI_PROVIDERS: a is there twice"),
        ("[providers.big", r"HODEI_CONFIG_FILE: .*hodei\.toml can't be read"),
        ("[providers.process]\npool_min_ready = -1", r"providers\.process\.pool_min_ready: '-1' can't be used"),
        ("[providers.big]\npool_size = 1", r"providers\.big\.pool_size: there is no such option"),
    ],
)
def test_what_cannot_be_used_is_named_by_its_place(load: Load, text: str, complaint: str) -> None:
    """Before anything has begun."""
    with pytest.raises(SettingsError, match=complaint):
        _ = load(text).provider_kinds, load(text).pools


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kind = 'docker'\nnetwrok = 'x'", r"^providers\.big\.netwrok: there is no such option; known are: .*network"),
        ("kind = 'docker'\npids_limit = 0", r"^providers\.big\.pids_limit: '0' can't be used: it is at least 1"),
        ("kind = 'docker'\ntls_cert = '{file}'", r"^providers\.big\.tls_cert and HODEI_DOCKER_TLS_KEY go together"),
        ("kind = 'kubernetes'\nnamespace = 'A B'", r"^providers\.big\.namespace: 'A B' can't be used: expected"),
        ("kind = 'process'\nmax_workers = 0", r"^providers\.big\.max_workers: '0' can't be read: it is at least 1"),
        ("kind = 'process'\nhost = 'x'", r"^providers\.big\.host: there is no such option"),
        ("kind = 'doker'", r"there is no provider of kind 'doker'"),
        ("kind = 'docker'\nhost = 'tcp://127.0.0.1:1'", r"provider big: .*127\.0\.0\.1:1.*; .*providers\.big\.host"),
    ],
)
async def test_a_provider_that_cannot_be_made_is_named_by_its_place(load: Load, text: str, complaint: str) -> None:
    """As with variables, in the same words."""
    settings = load(f"[providers.big]\n{text.replace('{file}', str(load.file))}")
    with pytest.raises(ProviderSetupError, match=complaint):
        async with contextlib.AsyncExitStack() as stack:
            await open_providers(settings, stack)


def test_what_is_in_force_is_shown_for_each_provider(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """As variables that would give the same, defaults included, so that two of a kind can be told apart."""
    settings = load(THREE_HOSTS)
    shown = show(settings)
    assert shown["providers"] == "eu-west=docker,eu=docker,docker,cluster=kubernetes,here=process"
    assert shown["provider_eu_west_host"] == "tcp://eu.example:2376"
    assert shown["provider_eu_west_container_labels"] == "team=ops,tier=1"
    assert (shown["provider_eu_west_pids_limit"], shown["provider_docker_pids_limit"]) == ("4096", "4096")
    assert shown["provider_here_labels"] == "disk=ssd"
    assert (shown["provider_eu_west_pool_min_ready"], shown["provider_cluster_namespace"]) == ("2", "batch")
    monkeypatch.delenv("HODEI_CONFIG_FILE")
    for name, text in shown.items():
        monkeypatch.setenv(f"HODEI_{name.upper()}", text)
    assert show(load_settings()) == shown
    again = load_settings()
    for name, kind in settings.provider_kinds.items():
        if kind in known_configs():
            before, after = (
                read_config(known_configs()[kind], each.provider_config(name)) for each in (settings, again)
            )
            assert before == after


def test_manifests_are_printed_for_a_cluster_of_the_file(load: Load) -> None:
    """With its own namespace; who is no cluster is refused with those that are."""
    load(THREE_HOSTS)
    printed = CliRunner().invoke(cli, ["k8s", "manifests", "--provider", "cluster"])
    assert printed.exit_code == 0, printed.output
    assert "name: batch\n" in printed.output
    assert "hodei-jobs-workers\n" not in printed.output
    refused = CliRunner().invoke(cli, ["k8s", "manifests", "--provider", "eu"])
    assert refused.exit_code == 2
    assert "'eu'; there are: cluster" in refused.output
