"""What a namespace for workers needs, as pure functions of the configuration; what the server may do is in `rights`.

``hodei k8s manifests`` prints it all, deploy/k8s holds it for the default configuration, and `infrastructure` makes it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from hodei.address import Address
from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.metadata import make_metadata
from hodei_providers.kubernetes.network import DEFAULT_PORT, Place
from hodei_providers.kubernetes.rights import (
    make_cluster_roles,
    make_infrastructure_role,
    make_pull_secrets_role,
    make_role,
    make_role_binding,
)
from hodei_providers.kubernetes.route import SERVICE

Manifest = dict[str, Any]

QUOTA, LIMITS, NETWORK_POLICY = "hodei-jobs-workers-quota", "hodei-jobs-workers-limits", "hodei-jobs-workers-netpol"
#: Options that decide what is printed, beside whom it is for.
_DECIDING = (
    "namespace",
    "dynamic_namespaces",
    "namespace_prefix",
    "pod_security_standard",
    "service_account",
    "image_pull_secrets",
    "server_address",
    "default_cpu_request",
    "default_cpu_limit",
    "default_memory_request",
    "default_memory_limit",
    "quota",
    "server_cidr",
    "dns_peers",
    "network_egress",
)


def make_namespace(namespace: str, config: KubernetesConfig, tenant: str = "") -> Manifest:
    """Return the namespace, with the Pod Security standard enforced, audited and warned of."""
    standard = config.pod_security_standard.value
    labels = {f"pod-security.kubernetes.io/{mode}": standard for mode in ("enforce", "audit", "warn")}
    if tenant:
        labels[names.TENANT] = tenant
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": make_metadata(namespace, labels=labels)}


def make_service_account(namespace: str, config: KubernetesConfig) -> Manifest:
    """Return the workers' account: nothing is bound to it, and no token of it is mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": make_metadata(config.service_account, namespace),
        "automountServiceAccountToken": False,
    }


def make_pull_secret(source: Mapping[str, Any], namespace: str) -> Manifest:
    """Return the copy of a pull secret for a tenant's namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": make_metadata(source["metadata"]["name"], namespace),
        "type": source["type"],
        "data": dict(source.get("data") or {}),
    }


def make_quota(namespace: str, config: KubernetesConfig) -> Manifest:
    """Return the bounds of all workers of a namespace together."""
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": make_metadata(QUOTA, namespace),
        "spec": {"hard": dict(config.quota)},
    }


def make_limit_range(namespace: str, config: KubernetesConfig) -> Manifest:
    """Return what a container gets that says nothing of its own; Hodei's say all of it."""
    limits = {
        "type": "Container",
        "default": {"cpu": config.default_cpu_limit, "memory": config.default_memory_limit},
        "defaultRequest": {"cpu": config.default_cpu_request, "memory": config.default_memory_request},
    }
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": make_metadata(LIMITS, namespace),
        "spec": {"limits": [limits]},
    }


def make_network_policy(namespace: str, config: KubernetesConfig, server: Place | None) -> Manifest:
    """Return what workers may reach: names, the server, and what the configuration adds. Nobody reaches them.

    :param server: None where it is not known.
    """
    names_rule: Manifest = {"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}
    if config.dns_peers:
        names_rule["to"] = [*map(dict, config.dns_peers)]
    egress = [names_rule]
    if server is not None:
        egress.append({"to": list(server.peers), "ports": [{"protocol": "TCP", "port": server.port}]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": make_metadata(NETWORK_POLICY, namespace),
        "spec": {
            "podSelector": {"matchLabels": {"app": names.APP}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [],
            "egress": [*egress, *map(dict, config.network_egress)],
        },
    }


def make_namespace_parts(
    namespace: str,
    config: KubernetesConfig,
    identity: str,
    server: Place | None,
    *,
    tenant: str = "",
    role: str = "Role",
) -> list[Manifest]:
    """Return everything a namespace needs, in the order in which it is made.

    :param identity: the server's; see `make_role_binding`, as for `role`.
    :param server: without it there is no network policy.
    """
    parts = [make_namespace(namespace, config, tenant), make_service_account(namespace, config)]
    if role == "Role":
        parts.append(make_role(namespace))
    return [
        *parts,
        make_role_binding(namespace, identity, role),
        make_quota(namespace, config),
        make_limit_range(namespace, config),
        *([make_network_policy(namespace, config, server)] if server else []),
    ]


def make_files(config: KubernetesConfig, identity: str, server: Place) -> dict[str, list[Manifest]]:
    """Return what an administrator may apply instead of the server, by file.

    :param identity: the server's; see `make_role_binding`.
    """
    space = config.namespace
    return {
        "rbac.yaml": [
            *make_cluster_roles(config, identity),
            make_role(space),
            make_role_binding(space, identity),
            *make_infrastructure_role(config, identity),
            *make_pull_secrets_role(config, identity),
        ],
        "namespace.yaml": [make_namespace(space, config), make_service_account(space, config)],
        "quota.yaml": [make_quota(space, config)],
        "limit-range.yaml": [make_limit_range(space, config)],
        "network-policy.yaml": [make_network_policy(space, config, server)],
    }


def manifests_command(config: KubernetesConfig, identity: str, server: Address | None, tenant: str = "") -> str:
    """Return the command that prints all this in any shell: the settings that decide it stand before it.

    :param server: where workers connect; None where that is not known yet.
    :param tenant: for whose namespace alone it is; empty for all but tenants' namespaces.
    """
    defaults = KubernetesConfig()
    settings = {
        name: _as_text(getattr(config, name)) for name in _DECIDING if getattr(config, name) != getattr(defaults, name)
    }
    inside = Address(f"{SERVICE}.{defaults.server_namespace}.svc", DEFAULT_PORT)
    if server is not None and server.target != inside.target:
        settings["server_address"] = server.target
    variables = [f"{config.prefix}{name.upper()}={shlex.quote(text)}" for name, text in settings.items()]
    whose = ["--tenant", tenant] if tenant else []
    return " ".join([*variables, shlex.join(["hodei", "k8s", "manifests", *whose, "--identity", identity])])


def _as_text(value: object) -> str:
    """Return an option as its variable has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{key}={text}" for key, text in value.items())
    if isinstance(value, tuple):
        return ",".join(value) if isinstance(value[0], str) else json.dumps(value)
    return str(value)
