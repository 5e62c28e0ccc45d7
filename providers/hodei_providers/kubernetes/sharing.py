"""Several of a server's providers in the same namespaces: what there is once is made the same by all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.credentials import find_cluster
from hodei_providers.kubernetes.route import own_namespace
from hodei_providers.registry import ProviderSetupError

#: Options that decide what a namespace has one of: labels, RoleBinding, ResourceQuota, LimitRange, NetworkPolicy.
ONCE = (
    "pod_security_standard",
    "server_identity",
    "quota",
    "default_cpu_request",
    "default_cpu_limit",
    "default_memory_request",
    "default_memory_limit",
    "server_address",
    "listen",
    "server_cidr",
    "dns_peers",
    "network_egress",
)


async def check_sharing(name: str, config: KubernetesConfig, others: Mapping[str, KubernetesConfig]) -> None:
    """Refuse settings by which providers would make the same objects differently, each undoing what the other made.

    :param others: what the other providers are told, by their names.
    :raise ProviderSetupError: names both, where they meet, and what differs; or a cluster can't be found.
    """
    for other_name, other in others.items():
        where = _meet(config, other)
        wrong = list(_differing(name, config, other_name, other)) if where else []
        if not wrong:
            continue
        cluster = (await find_cluster(config)).host.rstrip("/")
        if cluster == (await find_cluster(other)).host.rstrip("/"):
            raise ProviderSetupError(
                f"providers {other_name} and {name} have the same {where} of the cluster {cluster}, and would make "
                f"in two ways what is there once: {'; '.join(wrong)}. Give both the same, or namespaces of their own"
            )


def _meet(one: KubernetesConfig, other: KubernetesConfig) -> str:
    """Return which namespaces both make and repair, if they are of the same cluster; empty if none."""
    if not (one.ensure and other.ensure):
        return ""
    if one.namespace == other.namespace:
        return f"namespace {one.namespace}"
    both = one.dynamic_namespaces and other.dynamic_namespaces
    if both and one.namespace_prefix == other.namespace_prefix:
        return f"tenants' namespaces {one.namespace_prefix}…"
    return ""


def _differing(name: str, one: KubernetesConfig, other_name: str, other: KubernetesConfig) -> Iterator[str]:
    options = list(ONCE)
    if one.server_address or one.server_cidr or own_namespace():
        # Where the server is, for the network policy, is known by these; where it listens says nothing of it.
        options.remove("listen")
    if set(one.image_pull_secrets) & set(other.image_pull_secrets):
        options.append("namespace")  # from where they are copied to tenants' namespaces
    for option in options:
        value, others_value = getattr(one, option), getattr(other, option)
        if value != others_value:
            shown = f"{json.dumps(others_value)} for {other_name}, {json.dumps(value)} for {name}"
            yield f"{one.prefix}{option.upper()} is {shown}"
