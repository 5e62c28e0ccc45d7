"""Settings of providers: read by kind and by name, named when wrong."""

from __future__ import annotations

from typing import Any

import pytest

from hodei_providers.config import ConfigError, Given, given_options, options_of, read_config, shown_options
from hodei_providers.docker.config import Device, DockerConfig, Mount


def read(**variables: str) -> DockerConfig:
    """Read variables as a server would."""
    environment = {f"HODEI_DOCKER_{name.upper()}": text for name, text in variables.items()}
    return read_config(DockerConfig, given_options(DockerConfig, environment=environment, own={}, shared={}))


def test_each_option_is_read_as_what_it_is() -> None:
    """Sizes, processors, lists, pairs."""
    config = read(
        default_cpu="0.5",
        max_memory="2Gi",
        mounts="/etc/ssl:/etc/ssl:ro,/data:/data",
        devices="/dev/fuse,/dev/kvm:/dev/kvm:rw",
        container_labels="team=ops",
        read_only_root="false",
    )
    assert config.mounts == (Mount("/etc/ssl", "/etc/ssl", read_only=True), Mount("/data", "/data", read_only=False))
    assert config.devices == (Device("/dev/fuse", "/dev/fuse", "rwm"), Device("/dev/kvm", "/dev/kvm", "rw"))
    assert config.container_labels == {"team": "ops"}
    assert not config.read_only_root


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("host", "somewhere"),
        ("tls_ca", "/nowhere/ca.pem"),
        ("pull_policy", "sometimes"),
        ("max_workers", "-1"),
        ("default_memory", "lots"),
        ("max_cpu", "two"),
        ("mounts", "relative:/x"),
        ("devices", "/etc/passwd"),
        ("read_only_root", "maybe"),
        ("cost_per_hour", "-1"),
        ("server_address", "http://a:b"),
        ("pids_limit", "0"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, text: str) -> None:
    """By its variable."""
    with pytest.raises(ConfigError, match=f"HODEI_DOCKER_{name.upper()}: .*can't be used"):
        read(**{name: text})


def test_all_that_is_wrong_is_told_at_once() -> None:
    """A line for each."""
    with pytest.raises(ConfigError) as caught:
        read(pids_limit="0", max_cpu="x")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("host", None, "str"),
        ("max_workers", "5", "int"),
        ("max_workers", True, "int"),
        ("default_memory", "64Mi", "int"),
        ("max_cpu", 0.5, "int"),
        ("read_only_root", "false", "bool"),
        ("no_new_privileges", 1, "bool"),
        ("capabilities", "CHOWN", "tuple[str, ...]"),
        ("mounts", ("/a:/b",), "tuple[hodei_providers.docker.config.Mount, ...]"),
        ("devices", [], "tuple[hodei_providers.docker.config.Device, ...]"),
        ("container_labels", {"replicas": 1}, "Mapping[str, str]"),
        ("api_timeout", "30s", "float"),
    ],
)
def test_what_code_gives_docker_is_of_the_type_that_is_declared(name: str, value: Any, expected: str) -> None:
    """As for Kubernetes: a text is true, even "false", and the letters of one are no list of capabilities."""
    with pytest.raises(ConfigError) as caught:
        DockerConfig(**{name: value})
    assert str(caught.value) == f"HODEI_DOCKER_{name.upper()}: {value!r} can't be used: expected {expected}"


def test_all_that_code_gives_docker_wrongly_is_told_at_once() -> None:
    """A line for each, and nothing is compared that can't be."""
    with pytest.raises(ConfigError) as caught:
        DockerConfig(max_memory="1Gi", default_memory=2 << 30, user=1000)  # type: ignore[arg-type]  # that is the fault
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "HODEI_DOCKER_MAX_MEMORY",
        "HODEI_DOCKER_USER",
    ]


def test_options_that_contradict_each_other_are_named() -> None:
    """A default beyond the limit would refuse every job."""
    with pytest.raises(ConfigError, match="HODEI_DOCKER_DEFAULT_MEMORY is more than HODEI_DOCKER_MAX_MEMORY"):
        read(default_memory="2Gi", max_memory="1Gi")


def test_what_contradicts_another_option_is_called_as_it_was_written() -> None:
    """By the file's key where it is from there."""
    own = {"default_memory": Given("providers.big.default_memory", "2Gi")}
    given = given_options(DockerConfig, environment={"HODEI_DOCKER_MAX_MEMORY": "1Gi"}, own=own, shared={})
    with pytest.raises(ConfigError, match=r"^providers\.big\.default_memory is more than HODEI_DOCKER_MAX_MEMORY$"):
        read_config(DockerConfig, given)


def test_a_providers_own_option_wins_over_its_kinds() -> None:
    """And that over what all kinds share."""
    given = given_options(
        DockerConfig,
        environment={"HODEI_DOCKER_NETWORK": "kind", "HODEI_DOCKER_WORKER_IMAGE": "kind"},
        own={"network": Given("HODEI_PROVIDER_BIG_NETWORK", "own"), "user": Given("providers.big.user", "1000")},
        shared={"worker_image": "shared"},
    )
    assert given["network"] == Given("HODEI_PROVIDER_BIG_NETWORK", "own")
    assert given["worker_image"] == Given("HODEI_DOCKER_WORKER_IMAGE", "kind")
    shown = dict(shown_options(DockerConfig, "big", given, only_one=False))
    assert (shown["HODEI_PROVIDER_BIG_NETWORK"], shown["HODEI_PROVIDER_BIG_USER"]) == ("own", "1000")
    assert (shown["HODEI_DOCKER_WORKER_IMAGE"], shown["HODEI_PROVIDER_BIG_PIDS_LIMIT"]) == ("kind", "4096")


def test_an_unknown_option_of_a_provider_is_named() -> None:
    """A typing error is not read as a default."""
    own = {"netwrok": Given("HODEI_PROVIDER_BIG_NETWROK", "x")}
    given = given_options(DockerConfig, environment={}, own=own, shared={})
    with pytest.raises(ConfigError, match="HODEI_PROVIDER_BIG_NETWROK: there is no such option"):
        read_config(DockerConfig, given)


def test_every_option_is_described() -> None:
    """For docs/configuration.md."""
    assert all(info.description.endswith(".") for info in options_of(DockerConfig))
