"""What docs/kubernetes.md has for production: its example, setting by setting, and its checklist, line by line."""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
import itertools
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner

from hodei.address import Address, parse_address
from hodei.quantities import parse_cpu
from hodei_cli.commands import cli
from hodei_faults.played_api import playing
from hodei_faults.production import PAGE, production_checklist, production_variables
from hodei_providers.config import enabled_kinds, pairs
from hodei_providers.contract import Route
from hodei_providers.kubernetes.manifests import make_namespace_parts
from hodei_providers.kubernetes.network import find_place
from hodei_providers.kubernetes.pod import Owner, make_pod
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.kubernetes.route import find_route
from hodei_providers.kubernetes.serving import make_server
from hodei_providers.registry import load_provider
from hodei_providers.testing import make_request
from hodei_server.settings import Settings, load_settings, unknown_variables

EXAMPLE = production_variables()


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """What a server makes of its variables.

    :ivar route: how pods reach the server.
    :ivar pod: of a job that asks for nothing.
    :ivar parts: of the workers' namespace, by kind.
    :ivar ages: seconds since their end of pods that have outlived their time.
    """

    settings: Settings
    provider: KubernetesProvider
    route: Route
    pod: Mapping[str, Any]
    parts: Mapping[str, Any]
    ages: list[int]

    @property
    def spec(self) -> Mapping[str, Any]:
        """The pod's."""
        spec: Mapping[str, Any] = self.pod["spec"]
        return spec

    @property
    def worker(self) -> Mapping[str, Any]:
        """The worker's container."""
        container: Mapping[str, Any] = self.spec["containers"][0]
        return container

    def asked(self, kind: str, resource: str) -> list[str]:
        """Return a request or a limit: the worker's, and what the namespace's limit range gives others."""
        (others,) = self.parts["LimitRange"]["spec"]["limits"]
        key = {"requests": "defaultRequest", "limits": "default"}[kind]
        return [self.worker["resources"][kind][resource], others[key][resource]]

    def folder(self, name: str) -> str:
        """Return the bound of one of the folders that can be written."""
        (found,) = [each["emptyDir"] for each in self.spec["volumes"] if each["name"] == name]
        return str(found["sizeLimit"])

    @property
    def egress(self) -> list[Any]:
        """What workers may reach: names, the server, and more."""
        rules: list[Any] = self.parts["NetworkPolicy"]["spec"]["egress"]
        return rules


MakeAll = Callable[[Mapping[str, str]], Awaitable[Made]]


@pytest.fixture
async def make_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[MakeAll]:
    """Return what makes everything of variables, as a server does that has no others, before an API that is played."""
    pods: dict[str, Any] = {}
    gone: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        name = request.path.rpartition("/")[2]
        if name not in pods:
            return web.json_response({"items": [], "metadata": {}})
        if request.method == "DELETE":
            gone.append(int(name.rpartition("w")[2]))
        return web.json_response(pods[name])

    async def make(variables: Mapping[str, str]) -> Made:
        for name in [name for name in os.environ if name.startswith("HODEI_")]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert unknown_variables(variables) == []
        settings = load_settings()
        provider = load_provider(
            "kubernetes",
            "kubernetes",
            data_dir=tmp_path / "data",
            options=settings.provider_options("kubernetes"),
            environment=os.environ | {"HODEI_K8S_KUBECONFIG": kubeconfig},
            shared=settings.shared_options,
        )
        assert isinstance(provider, KubernetesProvider)
        provider.check_orphan_after(settings.orphan_after)
        request = make_request()
        pod = make_pod(request, provider._spaces.of(request.worker_id, "acme"), provider.config, Owner("kubernetes"))
        route = find_route(provider.config, "https://192.0.2.1")
        place = find_place(provider.config, Address(route.host, route.port))
        parts = make_namespace_parts(provider.config.namespace, provider.config, "someone", place)
        pods.update({f"hodei-worker-w{age}": ended(age, pod) for age in (60, 3570, 3630)})
        gone.clear()
        async with provider._api:
            await provider._sweep(list(pods.values()))
        return Made(settings, provider, route, pod, {part["kind"]: part for part in parts}, list(gone))

    async with playing(answer, tmp_path) as config:
        kubeconfig = config.kubeconfig
        yield make


def ended(age: int, pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a worker's pod that has ended some seconds ago."""
    finished = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    end = {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": finished.isoformat()}}
    labels = pod["metadata"]["labels"] | {"hodei.io/worker-id": f"w{age}"}
    metadata = pod["metadata"] | {"name": f"hodei-worker-w{age}", "uid": f"uid-{age}", "labels": labels}
    status = {"phase": "Succeeded", "containerStatuses": [{"name": "worker", "state": end}]}
    return {**pod, "metadata": {**metadata, "annotations": {}}, "status": status}


@dataclasses.dataclass(frozen=True, slots=True)
class Effect:
    """What a setting does.

    :param other: another value of it, which does something else.
    :param seen: returns what is to be seen of it.
    :param means: returns what its text means, in the same form.
    """

    other: str
    seen: Callable[[Made], object]
    means: Callable[[str], object] = str


def twice(read: Callable[[str], object] = str) -> Callable[[str], object]:
    """Return what reads a text that is to be seen in two places."""
    return lambda text: [read(text)] * 2


EFFECTS: Mapping[str, Effect] = {
    "HODEI_KUBERNETES_ENABLED": Effect("false", lambda _: "kubernetes" in enabled_kinds(os.environ), "true".__eq__),
    "HODEI_PROVIDERS": Effect("process", lambda made: ",".join(made.settings.provider_kinds)),
    "HODEI_WORKER_IMAGE": Effect("other:1", lambda made: made.worker["image"]),
    "HODEI_K8S_NAMESPACE": Effect(
        "others",
        lambda made: {
            made.parts["Namespace"]["metadata"]["name"],
            *(each["metadata"].get("namespace") for each in [made.pod, *made.parts.values()]),
        },
        lambda text: {text, None},  # a namespace is in none
    ),
    "HODEI_K8S_POD_SECURITY_STANDARD": Effect(
        "baseline",
        lambda made: (
            {
                value
                for key, value in made.parts["Namespace"]["metadata"]["labels"].items()
                if key.startswith("pod-security.kubernetes.io/")
            },
            made.worker["securityContext"].get("allowPrivilegeEscalation"),
        ),
        lambda text: ({text}, False),
    ),
    "HODEI_K8S_SERVICE_ACCOUNT": Effect(
        "other",
        lambda made: [made.spec["serviceAccountName"], made.parts["ServiceAccount"]["metadata"]["name"]],
        twice(),
    ),
    "HODEI_K8S_IMAGE_PULL_SECRETS": Effect(
        "other", lambda made: [each["name"] for each in made.spec["imagePullSecrets"]], lambda text: text.split(",")
    ),
    "HODEI_K8S_IMAGE_PULL_POLICY": Effect("Always", lambda made: made.worker["imagePullPolicy"]),
    "HODEI_K8S_SERVER_ADDRESS": Effect(
        "hodei-server.other.svc:50052",
        lambda made: [
            str(Address(made.route.host, made.route.port)),
            made.egress[1]["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
            made.egress[1]["ports"][0]["port"],
        ],
        lambda text: [str(parse_address(text)), text.split(".")[1], parse_address(text).port],
    ),
    "HODEI_K8S_SERVER_NAMESPACE": Effect(
        "other",
        lambda made: [part["metadata"].get("namespace") for part in make_server(made.provider.config, {})[1:]],
        lambda text: [text] * 4,
    ),
    "HODEI_K8S_DEFAULT_CPU_REQUEST": Effect(
        "1", lambda made: [*map(parse_cpu, made.asked("requests", "cpu"))], twice(parse_cpu)
    ),
    "HODEI_K8S_DEFAULT_CPU_LIMIT": Effect(
        "3", lambda made: [*map(parse_cpu, made.asked("limits", "cpu"))], twice(parse_cpu)
    ),
    "HODEI_K8S_DEFAULT_MEMORY_REQUEST": Effect("2Gi", lambda made: made.asked("requests", "memory"), twice()),
    "HODEI_K8S_DEFAULT_MEMORY_LIMIT": Effect("5Gi", lambda made: made.asked("limits", "memory"), twice()),
    "HODEI_K8S_DEFAULT_STORAGE_LIMIT": Effect(
        "5Gi", lambda made: [*map(made.folder, ("hodei-tmp", "hodei-home"))], twice()
    ),
    "HODEI_K8S_QUOTA": Effect("pods=5", lambda made: made.parts["ResourceQuota"]["spec"]["hard"], pairs),
    "HODEI_K8S_NODE_SELECTOR": Effect("pool=other", lambda made: made.spec["nodeSelector"], pairs),
    # Behind them are those of lost nodes.
    "HODEI_K8S_TOLERATIONS": Effect("[]", lambda made: made.spec["tolerations"][:-2], json.loads),
    "HODEI_K8S_PRIORITY_CLASS": Effect("other", lambda made: made.spec["priorityClassName"]),
    "HODEI_K8S_DNS_PEERS": Effect("[]", lambda made: made.egress[0].get("to"), json.loads),
    "HODEI_K8S_NETWORK_EGRESS": Effect("[]", lambda made: made.egress[2:], json.loads),
    "HODEI_K8S_POD_LABELS": Effect("team=other", lambda made: {"team": made.pod["metadata"]["labels"]["team"]}, pairs),
    "HODEI_K8S_MAX_PODS": Effect("7", lambda made: made.provider.capabilities().max_workers, int),
    "HODEI_K8S_TTL_SECONDS_AFTER_FINISHED": Effect(
        "30", lambda made: made.ages, lambda text: [age for age in (60, 3570, 3630) if age > int(text)]
    ),
    "HODEI_PROVIDER_KUBERNETES_POOL_MIN_READY": Effect(
        "6", lambda made: [each.min_ready for each in made.settings.pools["kubernetes"].pools], lambda text: [int(text)]
    ),
}


def test_each_setting_of_the_example_is_looked_at_below() -> None:
    """One that is added to it, and one that is taken out."""
    assert list(EFFECTS) == list(EXAMPLE)


@pytest.mark.parametrize("variable", EXAMPLE)
async def test_each_setting_of_the_example_does_what_it_says(variable: str, make_all: MakeAll) -> None:
    """Among all the others; and something else where it says something else."""
    effect = EFFECTS[variable]
    assert effect.seen(await make_all(EXAMPLE)) == effect.means(EXAMPLE[variable])
    assert effect.seen(await make_all(EXAMPLE | {variable: effect.other})) != effect.means(EXAMPLE[variable])


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "100.64.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.254", "192.168.1.1"]
)
async def test_with_the_example_no_job_reaches_a_clouds_metadata_or_a_private_network(
    address: str, make_all: MakeAll
) -> None:
    """W24: on no port, that of names included; what is public it does."""

    def reached(rule: Mapping[str, Any], address: str) -> bool:
        host = ipaddress.ip_address(address)
        blocks = [each["ipBlock"] for each in rule.get("to", [{"ipBlock": {"cidr": "0.0.0.0/0"}}]) if "ipBlock" in each]
        return any(
            host in ipaddress.ip_network(block["cidr"])
            and not any(host in ipaddress.ip_network(each) for each in block.get("except", []))
            for block in blocks
        )

    egress = (await make_all(EXAMPLE)).egress
    assert not any(reached(rule, address) for rule in egress)
    assert any(reached(rule, "192.0.2.1") for rule in egress)


@pytest.mark.parametrize("need", production_checklist())
def test_each_line_of_the_checklist_names_what_covers_it(need: str) -> None:
    """A setting, a file or a command that is there, or that it isn't there yet."""
    covered = production_checklist()[need]
    named = re.findall(r"`([^`]+)`", covered)
    settings = [each for each in named if each.startswith("HODEI_")]
    files = [each for each in named if each.startswith("deploy/")]
    commands = [each.split() for each in named if each.startswith("hodei ")]
    assert unknown_variables(dict.fromkeys(settings, "")) == []
    for file in files:
        assert (PAGE.parents[1] / file).is_file()
    for _, *words in commands:
        told = CliRunner().invoke(cli, [*itertools.takewhile(str.isalnum, words), "--help"])
        assert told.exit_code == 0
        assert all(word in told.output.split() for word in words if word.startswith("--"))
    assert settings or files or commands or "isn't there yet" in covered
