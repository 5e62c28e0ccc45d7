"""What a cluster has for workers, as pure functions of its objects: nodes, what pods ask of them, quotas, usage."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from hodei.quantities import parse_cpu, parse_size
from hodei_providers.contract import Resources
from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.layout import CONTAINER
from hodei_providers.kubernetes.resources import gpu_toleration

Manifest = Mapping[str, Any]
#: Of each resource that is summed up: processors in thousandths, bytes, pieces.
Amounts = dict[str, int]

_QUANTITY = re.compile(r"([+-]?[0-9.]+)(?:([eE][+-]?[0-9]+)|([numkMGTPE]|[KMGTPE]i)?)")
_POWERS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = "KMGTPE"
#: What the cluster calls what `Resources` has.
_NAMES = {"cpu": "cpu_millis", "memory": "memory_bytes", "ephemeral-storage": "disk_bytes"}
_GPU = "gpu_count"
#: Effects of taints that keep new pods away.
_REPELLING = {"NoSchedule", "NoExecute"}


@functools.lru_cache(maxsize=4096)  # thousands of pods ask for the same few
def read_quantity(text: str) -> Decimal:
    """Return a quantity as the API writes it: ``500m``, ``2``, ``64Mi``, ``123456n``, ``1e3``.

    :raise ValueError: it is none.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no quantity")
    number, exponent, unit = match[1], match[2], match[3] or ""
    if exponent:
        return Decimal(number + exponent)
    if unit.endswith("i"):
        return Decimal(number) * Decimal(1024 ** (_BINARY.index(unit[0]) + 1))
    return Decimal(number).scaleb(_POWERS[unit])


def amounts(quantities: Mapping[str, str], gpus: Iterable[str] = ()) -> Amounts:
    """Return what `Resources` has of a list of resources; those of other names are left out.

    :param gpus: the names of extended resources that are GPUs.
    """
    found: Amounts = {}
    for name, text in quantities.items():
        if name in _NAMES:
            value = read_quantity(text)
            found[_NAMES[name]] = int(value * 1000) if name == "cpu" else int(value)
        elif name in gpus:
            found[_GPU] = found.get(_GPU, 0) + int(read_quantity(text))
    return found


def add(*each: Mapping[str, int]) -> Amounts:
    """Return the sum."""
    total: Amounts = {}
    for one in each:
        for name, value in one.items():
            total[name] = total.get(name, 0) + value
    return total


def nothing() -> Amounts:
    """Return what nodes have that there are none of; of GPUs nothing is said, as `as_resources` does."""
    return dict.fromkeys(_NAMES.values(), 0)


def subtract(one: Mapping[str, int], other: Mapping[str, int]) -> Amounts:
    """Return what the first has beyond the second, of what the first has."""
    return {name: value - other.get(name, 0) for name, value in one.items()}


def takes_workers(node: Manifest, config: KubernetesConfig) -> bool:
    """Whether a worker's pod may be placed on a node, as far as its state, labels and taints go.

    One that is kept for jobs with GPUs is one of them: their pods tolerate its taint.
    """
    spec, labels = node.get("spec") or {}, node["metadata"].get("labels") or {}
    conditions = {each["type"]: each["status"] for each in (node.get("status") or {}).get("conditions") or []}
    if spec.get("unschedulable") or conditions.get("Ready") != "True":
        return False
    if any(labels.get(key) != value for key, value in config.node_selector.items()):
        return False
    taints = [each for each in spec.get("taints") or [] if each.get("effect") in _REPELLING]
    tolerations = [*config.tolerations, *(gpu_toleration(each) for each in config.gpu_resources.values())]
    return all(any(_tolerates(one, taint) for one in tolerations) for taint in taints)


def _tolerates(toleration: Manifest, taint: Manifest) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")


def asked_of(pod: Manifest, gpus: Iterable[str] = ()) -> Amounts:
    """Return what a pod takes of its node: its containers together, or the greatest of what runs before them."""
    spec, gpus = pod["spec"], tuple(gpus)
    running = add(*(_requests(each, gpus) for each in spec["containers"]))
    before: list[Amounts] = []
    for container in spec.get("initContainers") or []:
        if container.get("restartPolicy") == "Always":
            # A sidecar: it stays.
            running = add(running, _requests(container, gpus))
        else:
            before.append(_requests(container, gpus))
    kinds = {name for each in (running, *before) for name in each}
    most = {name: max(each.get(name, 0) for each in (running, *before)) for name in kinds}
    return add(most, amounts(spec.get("overhead") or {}, gpus))


def _requests(container: Manifest, gpus: Iterable[str]) -> Amounts:
    return amounts((container.get("resources") or {}).get("requests") or {}, gpus)


def job_of(pod: Manifest, config: KubernetesConfig) -> Amounts:
    """Return what the job asked that a worker's pod was made for: what the server counts for it.

    The pod tells it. Of one that was made before pods told it: what a job asks is request and limit both, with what the
    agent takes on top; what it doesn't ask takes the defaults.
    """
    told = (pod["metadata"].get("annotations") or {}).get(names.ASKED, "")
    # Somebody may have edited it.
    with contextlib.suppress(ValueError, TypeError):
        asked: Mapping[str, Any] = json.loads(told)
        return {name: int(asked[name]) for name in (*_NAMES.values(), _GPU) if name in asked}
    gpus = tuple(config.gpu_resources.values())
    container: Manifest = next((each for each in pod["spec"]["containers"] if each["name"] == CONTAINER), {})
    resources = container.get("resources") or {}
    requests = amounts(resources.get("requests") or {}, gpus)
    limits = amounts(resources.get("limits") or {}, gpus)
    spool = parse_size(config.spool_storage)
    defaults = {
        "cpu_millis": parse_cpu(config.default_cpu_request),
        "memory_bytes": parse_size(config.default_memory_request),
    }
    beside = {"memory_bytes": parse_size(config.agent_memory), "disk_bytes": spool}
    return {
        name: max(value - beside.get(name, 0), 0)
        for name, value in requests.items()
        if value == limits.get(name) and value != defaults.get(name)
    }


def is_there(pod: Manifest) -> bool:
    """Whether a pod takes room: it has not ended."""
    return (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}


def left_by_quota(quota: Manifest, gpus: Iterable[str] = ()) -> Amounts:
    """Return what a ResourceQuota leaves, of what it bounds: the least of requests and limits."""
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    left: Amounts = {}
    for name, text in hard.items():
        plain = name.removeprefix("requests.").removeprefix("limits.")
        bound = subtract(amounts({plain: text}, gpus), amounts({plain: used.get(name, "0")}, gpus))
        for each, value in bound.items():
            left[each] = min(left.get(each, value), value)
    return left


def as_resources(*bounds: Mapping[str, int]) -> Resources | None:
    """Return the least of several bounds; None where there is none. What is used up is 1: 0 would mean no bound."""
    kinds = {name for bound in bounds for name in bound}
    least = {name: min(bound[name] for bound in bounds if name in bound) for name in kinds}
    # A cluster without any GPU: none is known to bound them, and its scheduler says so of whoever asks.
    known = {name: max(value, 1) for name, value in least.items() if name != _GPU or value > 0}
    return dataclasses.replace(Resources(), **dict[str, Any](known)) if known else None


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """What was seen of a cluster at one moment.

    :param nodes: that take workers, of how many.
    :param allocatable: on these together; empty where nodes can't be read.
    :param asked: of them by all pods there; None where only this installation's are known.
    :param used: of them, as measured; None where that isn't known.
    :param total: for the server, which takes off it what its own workers' jobs ask.
    :param notes: what isn't known, and why, a sentence each.
    """

    nodes: tuple[int, int] = (0, 0)
    allocatable: Mapping[str, int] = dataclasses.field(default_factory=dict)
    asked: Mapping[str, int] | None = None
    used: Mapping[str, int] | None = None
    total: Resources | None = None
    notes: tuple[str, ...] = ()

    def words(self) -> str:
        """Return it for people."""
        parts: list[str] = []
        if self.allocatable:
            taking, there = self.nodes
            parts.append(f"{taking} of {there} nodes take workers, with {_amount(self.allocatable)}")
        if self.asked is not None:
            parts.append(f"pods there ask for {_amount(self.asked)}")
        if self.used is not None:
            parts.append(f"{_amount(self.used)} are in use")
        return "; ".join([*parts, *self.notes])


def _amount(amount: Mapping[str, int]) -> str:
    return f"{amount.get('cpu_millis', 0) / 1000:.1f} processors and {amount.get('memory_bytes', 0) / 2**30:.1f} GiB"
