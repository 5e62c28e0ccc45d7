"""What the Kubernetes provider is told, validated before anything is asked of a cluster."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hodei.address import parse_address
from hodei.quantities import parse_cpu, parse_size
from hodei_providers.kubernetes import reading
from hodei_providers.kubernetes.names import OWN_PREFIXES, is_dns_label, is_dns_name, label_key_error, label_value_error
from hodei_providers.registry import ProviderSetupError

VARIABLE = "HODEI_K8S_"
#: What a worker keeps of a log at most beside the job's own files, and room to spare.
MIN_SPOOL = (1 << 30) + (64 << 20)
_COUNT_QUOTA = re.compile(r"[a-z0-9./-]+")


class KubernetesConfigError(ProviderSetupError):
    """Values that can't be used, a line each, naming the variable and what was expected."""


class PodSecurityStandard(enum.StrEnum):
    """What a namespace's admission lets pods do, as Kubernetes defines it."""

    PRIVILEGED = "privileged"
    BASELINE = "baseline"
    RESTRICTED = "restricted"


class ImagePullPolicy(enum.StrEnum):
    """When a node asks a registry for an image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class OtpDelivery(enum.StrEnum):
    """How a worker gets its one-time token."""

    #: From a Secret that is mounted as a file.
    FILE = "file"
    #: From the same Secret, in the environment, where the pod's other processes of the same user may see it.
    ENV = "env"


_DEFAULT_QUOTA = {
    "pods": "100",
    "requests.cpu": "50",
    "requests.memory": "200Gi",
    "limits.cpu": "200",
    "limits.memory": "400Gi",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KubernetesConfig:
    """Everything that can be said of one cluster. Each field is the variable `HODEI_K8S_<FIELD>`.

    Quantities are written as Kubernetes writes them: ``500m``, ``2``, ``1Gi``. In variables, maps are ``key=value,…``,
    lists are separated by commas, and what has a structure of its own (`tolerations`, `affinity`, `volumes`,
    `volume_mounts`, `network_egress`) is JSON, as in a pod's manifest.

    :param namespace: where workers run, if `dynamic_namespaces` is off.
    :param dynamic_namespaces: each tenant has a namespace of its own, `namespace_prefix` and the tenant's name.
    :param namespace_prefix: of the tenants' namespaces.
    :param kubeconfig: the file that names the cluster; else `KUBECONFIG`, ``~/.kube/config``, or the pod's own account.
    :param context: the kubeconfig's context; its current one if empty.
    :param worker_image: what workers run that have no image of their own (`HODEI_WORKER_IMAGE`).
    :param service_account: of the workers' pods; it has no rights, and no token of it is mounted.
    :param server_identity: the user or ``system:serviceaccount:NAMESPACE:NAME`` that the Role is bound to; the
        provider's own, as the cluster sees it, if empty.
    :param default_cpu_request: of a job that asks for no processors; so the other three.
    :param default_memory_request: see above.
    :param default_cpu_limit: see above.
    :param default_memory_limit: see above.
    :param agent_memory: what the agent takes, added to the memory that a job asks for.
    :param default_storage_request: of a job that asks for no disk; so its limit. What a job asks is both, and ``/tmp``,
        the home and its working folder may each grow as large as that.
    :param default_storage_limit: see above.
    :param spool_storage: beside it, for logs that the server has not taken yet.
    :param pod_security_standard: which one the namespaces' labels demand, and pods keep.
    :param read_only_root: the container's root can't be written; ``/tmp`` and the home can.
    :param ttl_seconds_after_finished: finished pods that nobody removed are, after so long.
    :param image_pull_secrets: names of Secrets in the workers' namespace.
    :param image_pull_policy: `ImagePullPolicy`.
    :param image_pull_grace: seconds after which an image that can't be pulled fails its job; at once where the reason
        can't heal.
    :param otp_delivery: `OtpDelivery`.
    :param node_selector: labels that a node must have.
    :param tolerations: a list, as in a pod.
    :param toleration_seconds: how long a pod stays on a node that is not ready or can't be reached.
    :param affinity: as in a pod.
    :param priority_class: a PriorityClass.
    :param runtime_class: a RuntimeClass.
    :param labels: further labels of pods; none of Hodei's own.
    :param annotations: further annotations of pods.
    :param volumes: further volumes, as in a pod.
    :param volume_mounts: where the worker's container has them.
    :param gpu_resources: the extended resource of each type of GPU; the entry `default` is for jobs that name no type.
    :param termination_grace: seconds between SIGTERM and SIGKILL when somebody deletes a pod.
    :param server_address: the workers' listener as pods see it, ``host:port``.
    :param server_ca: a file with the authority to trust for it, PEM; the server's own if empty.
    :param server_cidr: the server's address outside of the cluster, for the network policy, as ``10.0.0.1/32``.
    :param server_namespace: where the server's pods run if it is inside.
    :param network_egress: further rules of what jobs may reach, a list, as in a NetworkPolicy's `egress`.
    :param quota: hard limits of the ResourceQuota.
    :param ensure: make and repair namespaces and what belongs in them; off: an administrator does.
    :param max_pods: how many at once.
    :param api_timeout: seconds that one call of the API may take.
    :param api_rate: calls a second at most.
    :param resync_seconds: between full lists behind the watch.
    :param cost_per_hour: of one worker, for the strategy `lowest_cost`.
    :param regions: for jobs that name one.
    :param provider_labels: for jobs' `required_labels` and `preferred_labels`.
    :raise KubernetesConfigError: a value can't be used; every such value is named.
    """

    namespace: str = "hodei-jobs-workers"
    dynamic_namespaces: bool = False
    namespace_prefix: str = "hodei-tenant-"
    kubeconfig: str = ""
    context: str = ""
    worker_image: str = "hodei-jobs-worker:latest"
    service_account: str = "hodei-jobs-worker"
    server_identity: str = ""
    default_cpu_request: str = "500m"
    default_memory_request: str = "1Gi"
    default_cpu_limit: str = "2"
    default_memory_limit: str = "4Gi"
    agent_memory: str = "64Mi"
    default_storage_request: str = "256Mi"
    default_storage_limit: str = "2Gi"
    spool_storage: str = "1280Mi"
    pod_security_standard: PodSecurityStandard = PodSecurityStandard.RESTRICTED
    read_only_root: bool = True
    ttl_seconds_after_finished: int = 3600
    image_pull_secrets: tuple[str, ...] = ()
    image_pull_policy: ImagePullPolicy = ImagePullPolicy.IF_NOT_PRESENT
    image_pull_grace: float = 60.0
    otp_delivery: OtpDelivery = OtpDelivery.FILE
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    toleration_seconds: int = 30
    affinity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    priority_class: str = ""
    runtime_class: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    annotations: Mapping[str, str] = dataclasses.field(default_factory=dict)
    volumes: tuple[Mapping[str, Any], ...] = ()
    volume_mounts: tuple[Mapping[str, Any], ...] = ()
    gpu_resources: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"default": "nvidia.com/gpu"})
    termination_grace: int = 30
    server_address: str = ""
    server_ca: str = ""
    server_cidr: str = ""
    server_namespace: str = ""
    network_egress: tuple[Mapping[str, Any], ...] = ()
    quota: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(_DEFAULT_QUOTA))
    ensure: bool = True
    max_pods: int = 100
    api_timeout: float = 15.0
    api_rate: float = 50.0
    resync_seconds: float = 30.0
    cost_per_hour: float = 0.0
    regions: tuple[str, ...] = ()
    provider_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every field."""
        wrong = [
            f"{VARIABLE}{field.upper()}: {getattr(self, field)!r} can't be used: {expected}"
            for field, expected in _violations(self)
        ]
        if wrong:
            raise KubernetesConfigError("\n".join(wrong))

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> KubernetesConfig:
        """Read the configuration from text, by field.

        :raise KubernetesConfigError: an option is unknown, or can't be read or used; all of them are named.
        """
        values: dict[str, Any] = {}
        wrong: list[str] = []
        for option, text in options.items():
            if option not in READERS:
                wrong.append(f"{VARIABLE}{option.upper()}: there is no such option")
                continue
            try:
                values[option] = READERS[option](text)
            except ValueError as error:
                wrong.append(f"{VARIABLE}{option.upper()}: {text!r} can't be read: {error}")
        try:
            config = cls(**values)
        except KubernetesConfigError as error:
            wrong.append(str(error))
        if wrong:
            raise KubernetesConfigError("\n".join(wrong))
        return config


_READERS_BY_TYPE: Mapping[str, Callable[[str], object]] = {
    "str": str.strip,
    "bool": reading.boolean,
    "int": reading.whole,
    "float": reading.number,
    "tuple[str, ...]": reading.words,
    "tuple[Mapping[str, Any], ...]": reading.objects,
    "Mapping[str, Any]": reading.json_object,
    "Mapping[str, str]": reading.pairs,
    "PodSecurityStandard": reading.one_of(PodSecurityStandard),
    "ImagePullPolicy": reading.one_of(ImagePullPolicy),
    "OtpDelivery": reading.one_of(OtpDelivery),
}
#: What reads the text of each field.
READERS: Mapping[str, Callable[[str], object]] = {
    field.name: _READERS_BY_TYPE[str(field.type)] for field in dataclasses.fields(KubernetesConfig)
}


def _violations(config: KubernetesConfig) -> Iterator[tuple[str, str]]:
    yield from _names(config)
    yield from _quantities(config)
    yield from _numbers(config)
    yield from _labels(config)
    yield from _pod_parts(config)
    if config.server_address:
        try:
            parse_address(config.server_address)
        except ValueError as error:
            yield "server_address", str(error)
    if config.server_cidr and not reading.is_cidr(config.server_cidr):
        yield "server_cidr", "expected an address and the length of its network, like 10.0.0.1/32"


def _names(config: KubernetesConfig) -> Iterator[tuple[str, str]]:
    for field in ("namespace", "server_namespace"):
        value = getattr(config, field)
        if (value or field == "namespace") and not is_dns_label(value):
            yield field, "expected a DNS label: lower-case letters, digits and '-', at most 63"
    # The tenant's name, of at most 40 characters, comes behind it.
    if not is_dns_label(config.namespace_prefix + "x") or len(config.namespace_prefix) > 23:
        yield "namespace_prefix", "expected the beginning of a DNS label, at most 23 characters"
    for field in ("service_account", "priority_class", "runtime_class"):
        value = getattr(config, field)
        if (value or field == "service_account") and not is_dns_name(value):
            yield field, "expected a DNS name: lower-case letters, digits, '-' and '.', at most 253"
    if not all(map(is_dns_name, config.image_pull_secrets)):
        yield "image_pull_secrets", "expected names of Secrets, separated by commas"
    if not config.worker_image or any(character.isspace() for character in config.worker_image):
        yield "worker_image", "expected an image's name without spaces"


def _quantities(config: KubernetesConfig) -> Iterator[tuple[str, str]]:
    read: dict[str, int] = {}
    readers = {"cpu": parse_cpu, "memory": parse_size, "storage": parse_size}
    fields = [(f"default_{kind}_{end}", readers[kind]) for kind in readers for end in ("request", "limit")]
    fields += [("agent_memory", parse_size), ("spool_storage", parse_size)]
    for field, reader in fields:
        try:
            read[field] = reader(getattr(config, field))
        except ValueError as error:
            yield field, str(error)
    for kind in readers:
        request, limit = read.get(f"default_{kind}_request"), read.get(f"default_{kind}_limit")
        if request is not None and limit is not None and not 0 < request <= limit:
            most = getattr(config, f"default_{kind}_limit")
            yield f"default_{kind}_request", f"expected more than 0 and at most the limit, {most}"
    if read.get("spool_storage", MIN_SPOOL) < MIN_SPOOL:
        yield "spool_storage", "expected at least 1088Mi, more than a worker writes there"
    for name, text in config.quota.items():
        if not _COUNT_QUOTA.fullmatch(name) or not reading.is_quantity(text):
            yield "quota", f"expected resources and quantities, like pods=100,requests.cpu=50; {name}={text} is none"


def _numbers(config: KubernetesConfig) -> Iterator[tuple[str, str]]:
    least = {"max_pods": 1, "ttl_seconds_after_finished": 0, "toleration_seconds": 0, "termination_grace": 1}
    for field, bound in least.items():
        if getattr(config, field) < bound:
            yield field, f"expected at least {bound}"
    for field in ("api_timeout", "api_rate", "resync_seconds"):
        if not getattr(config, field) > 0:
            yield field, "expected more than 0"
    for field in ("image_pull_grace", "cost_per_hour"):
        if not getattr(config, field) >= 0:
            yield field, "expected 0 or more"


def _labels(config: KubernetesConfig) -> Iterator[tuple[str, str]]:
    for field in ("labels", "node_selector", "annotations"):
        for key, value in getattr(config, field).items():
            error = label_key_error(key) or ("" if field == "annotations" else label_value_error(value))
            if error:
                yield field, f"{key!r}: {error}"
            elif field != "node_selector" and key.startswith(OWN_PREFIXES):
                yield field, f"{key!r} is Hodei's own"


def _pod_parts(config: KubernetesConfig) -> Iterator[tuple[str, str]]:
    names = {str(volume.get("name", "")) for volume in config.volumes}
    if any(not is_dns_label(name) or name.startswith("hodei-") for name in names):
        yield "volumes", "expected volumes with names of their own, none of which begins with hodei-"
    for mount in config.volume_mounts:
        if mount.get("name") not in names or not str(mount.get("mountPath", "")).startswith("/"):
            yield "volume_mounts", "expected the name of one of the volumes and a mountPath that is absolute"
    if config.pod_security_standard is PodSecurityStandard.RESTRICTED and any("hostPath" in v for v in config.volumes):
        yield "volumes", "expected no hostPath: the Pod Security standard restricted refuses it"
    for kind, resource in config.gpu_resources.items():
        if not kind or label_key_error(resource) or "/" not in resource:
            yield "gpu_resources", "expected type=resource, like default=nvidia.com/gpu"
