"""What is wrong with a configuration, whoever has built it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from hodei.address import parse_address
from hodei.quantities import parse_cpu, parse_size
from hodei_providers.kubernetes import reading
from hodei_providers.kubernetes.names import is_dns_label, is_dns_name, is_own, label_key_error, label_value_error
from hodei_providers.kubernetes.options import KubernetesOptions
from hodei_providers.kubernetes.template_patch import patch_violations

#: What a worker keeps of a log at most beside the job's own files, and room to spare.
MIN_SPOOL = (1 << 30) + (64 << 20)
_PEER = {"ipBlock", "namespaceSelector", "podSelector"}
_KEY_PREFIX = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_./]*")
_COUNT_QUOTA = re.compile(r"[a-z0-9./-]+")


def violations(config: KubernetesOptions) -> Iterator[tuple[str, str]]:
    """Yield each field that can't be used, and what was expected."""
    yield from _names(config)
    yield from _quantities(config)
    yield from _numbers(config)
    yield from _labels(config)
    yield from _pod_parts(config)
    if config.server_address:
        try:
            parse_address(config.server_address, default_port=0)
        except ValueError as error:
            yield "server_address", str(error)
    if config.listen and not reading.is_address(config.listen):
        yield "listen", "expected an address of this machine, without a port"
    if config.server_ca and not Path(config.server_ca).is_file():
        yield "server_ca", "expected a file; there is none"
    if config.server_cidr and not reading.is_cidr(config.server_cidr):
        yield "server_cidr", "expected an address and the length of its network, like 10.0.0.1/32"

    # One without any is refused by the cluster, and a list of none is everybody.
    if any(not peer or not peer.keys() <= _PEER for peer in config.dns_peers):
        yield "dns_peers", f"expected peers of a NetworkPolicy, each with some of {', '.join(sorted(_PEER))}"


def _names(config: KubernetesOptions) -> Iterator[tuple[str, str]]:
    for field in ("namespace", "server_namespace"):
        if not is_dns_label(getattr(config, field)):
            yield field, "expected a DNS label: lower-case letters, digits and '-', at most 63"
    # A tenant's name has at most 40 characters.
    if not is_dns_label(f"{config.namespace_prefix}{'x' * 40}") or not config.namespace_prefix:
        yield "namespace_prefix", "expected a DNS label's beginning: lower-case letters, digits and '-', 1 to 23"
    for field in ("service_account", "priority_class", "runtime_class"):
        value = getattr(config, field)
        if (value or field == "service_account") and not is_dns_name(value):
            yield field, "expected a DNS name: lower-case letters, digits, '-' and '.', at most 253"
    if not all(map(is_dns_name, config.image_pull_secrets)):
        yield "image_pull_secrets", "expected names of Secrets, separated by commas"
    if not config.worker_image or any(character.isspace() for character in config.worker_image):
        yield "worker_image", "expected an image's name without spaces"


def _quantities(config: KubernetesOptions) -> Iterator[tuple[str, str]]:
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


def _numbers(config: KubernetesOptions) -> Iterator[tuple[str, str]]:
    for bound, fields in (
        (0, ("ttl_seconds_after_finished", "toleration_seconds")),
        (1, ("max_pods", "max_namespaces", "termination_grace")),
    ):
        for field in fields:
            if getattr(config, field) < bound:
                yield field, f"expected at least {bound}"
    for field in ("api_timeout", "api_rate", "resync", "lost_node_timeout"):
        if not getattr(config, field) > 0:
            yield field, "expected more than 0"
    for field in ("image_pull_grace", "cost_per_hour"):
        if not getattr(config, field) >= 0:
            yield field, "expected 0 or more"


def _labels(config: KubernetesOptions) -> Iterator[tuple[str, str]]:
    for field in ("pod_labels", "node_selector", "pod_annotations"):
        for key, value in getattr(config, field).items():
            error = label_key_error(key) or ("" if field == "pod_annotations" else label_value_error(value))
            if error:
                yield field, f"{key!r}: {error}"
            elif field != "node_selector" and is_own(key):
                yield field, f"{key!r} is Hodei's own"

    for begin in config.job_key_prefixes:
        if not _KEY_PREFIX.fullmatch(begin):
            yield "job_key_prefixes", f"expected beginnings of labels' keys, like jobs.example.com/; {begin!r} is none"


def _pod_parts(config: KubernetesOptions) -> Iterator[tuple[str, str]]:
    names = {str(volume.get("name", "")) for volume in config.volumes}
    if any(not is_dns_label(name) or name.startswith("hodei-") for name in names):
        yield "volumes", "expected volumes with names of their own, none of which begins with hodei-"
    for mount in config.volume_mounts:
        if mount.get("name") not in names or not str(mount.get("mountPath", "")).startswith("/"):
            yield "volume_mounts", "expected the name of one of the volumes and a mountPath that is absolute"
    if config.pod_security_standard == "restricted" and any("hostPath" in v for v in config.volumes):
        yield "volumes", "expected no hostPath: the Pod Security standard restricted refuses it"
    for wrong in patch_violations(config.pod_template_patch):
        yield "pod_template_patch", wrong
    for kind, resource in config.gpu_resources.items():
        if not kind or label_key_error(resource) or "/" not in resource:
            yield "gpu_resources", "expected type=resource, like default=nvidia.com/gpu"
