"""What a namespace for workers needs, and what the server may do there, as pure functions of the configuration.

``hodei k8s manifests`` prints it all, deploy/k8s holds it for the default configuration, and `infrastructure` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.network import Place

Manifest = dict[str, Any]

#: The Role and RoleBinding of the server in a namespace.
SERVER = "hodei-server"
#: What a server without an administrator's rights needs to hold in a namespace; it is bound there.
JOBS_ROLE = "hodei-server-jobs"
#: What a server needs that makes namespaces by itself.
NAMESPACES_ROLE = "hodei-server-namespaces"
QUOTA, LIMITS, NETWORK_POLICY = "hodei-jobs-workers-quota", "hodei-jobs-workers-limits", "hodei-jobs-workers-netpol"
#: What a server reads that copies pull secrets to tenants' namespaces, and what one may have that watches all at once.
PULL_SECRETS_ROLE, WATCH_ROLE = "hodei-server-pull-secrets", "hodei-server-watch"
_RBAC = "rbac.authorization.k8s.io"
_LABELS = {"app.kubernetes.io/part-of": "hodei", "app.kubernetes.io/managed-by": "hodei", names.MANAGED: "true"}

#: What the server does in a namespace; nothing that runs a command in a pod, and no secret can be read back.
JOBS_RULES: Sequence[Mapping[str, Sequence[str]]] = (
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "list", "watch"]},
)
#: Nodes belong to no namespace: whether one is lost is asked of the cluster.
NODES_RULE = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}
#: What nodes use, where somebody measures it.
USAGE_RULE = {"apiGroups": ["metrics.k8s.io"], "resources": ["nodes"], "verbs": ["get", "list"]}


def make_metadata(name: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> Manifest:
    """Return the metadata of what is made for Hodei, with the labels that say so."""
    metadata: Manifest = {"name": name, "labels": {**_LABELS, **(labels or {})}}
    if namespace:
        metadata["namespace"] = namespace
    return metadata


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


def make_role(namespace: str) -> Manifest:
    """Return what the server may do in a namespace."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "Role",
        "metadata": make_metadata(SERVER, namespace),
        "rules": [dict(rule) for rule in JOBS_RULES],
    }


def make_role_binding(namespace: str, identity: str, role: str = "Role") -> Manifest:
    """Return what gives the server its rights in a namespace.

    :param identity: a user, or ``system:serviceaccount:NAMESPACE:NAME``.
    :param role: `ClusterRole` where the server may not make a Role, but may bind that of an administrator.
    """
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": make_metadata(SERVER, namespace),
        "roleRef": {"apiGroup": _RBAC, "kind": role, "name": SERVER if role == "Role" else JOBS_ROLE},
        "subjects": [make_subject(identity)],
    }


def make_subject(identity: str) -> Manifest:
    """Return an identity as RBAC names it."""
    if identity.startswith("system:serviceaccount:"):
        namespace, _, name = identity.removeprefix("system:serviceaccount:").partition(":")
        return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return {"apiGroup": _RBAC, "kind": "User", "name": identity}


def make_pull_secrets_role(config: KubernetesConfig, identity: str) -> list[Manifest]:
    """Return the right to read the pull secrets that are copied to tenants' namespaces, and no others; bound."""
    if not (config.dynamic_namespaces and config.image_pull_secrets):
        return []
    rule = {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": list(config.image_pull_secrets),
        "verbs": ["get"],
    }
    metadata = make_metadata(PULL_SECRETS_ROLE, config.namespace)
    binding = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": PULL_SECRETS_ROLE},
        "subjects": [make_subject(identity)],
    }
    return [{"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}, binding]


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
    egress: list[Manifest] = [{"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}]
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


def make_cluster_roles(identity: str) -> list[Manifest]:
    """Return what an administrator applies once for a server that is no administrator itself, bound to it.

    RBAC lets nobody give rights that they lack; with `bind` on `JOBS_ROLE` the server gives itself these and no others.
    """
    namespaced = ["serviceaccounts", "resourcequotas", "limitranges"]
    make = ["get", "create", "patch"]
    rules = [
        NODES_RULE,
        USAGE_RULE,
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": [*make, "list"]},
        {"apiGroups": [""], "resources": namespaced, "verbs": make},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": make},
        {"apiGroups": [_RBAC], "resources": ["rolebindings"], "verbs": make},
        {"apiGroups": [_RBAC], "resources": ["clusterroles"], "resourceNames": [JOBS_ROLE], "verbs": ["bind"]},
    ]
    binding = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": make_metadata(NAMESPACES_ROLE),
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": NAMESPACES_ROLE},
        "subjects": [make_subject(identity)],
    }
    return [
        _cluster_role(JOBS_ROLE, [dict(rule) for rule in JOBS_RULES]),
        _cluster_role(NAMESPACES_ROLE, rules),
        binding,
        # Bound to nobody: with it a server watches the pods of all tenants at once, but sees everybody else's, too.
        _cluster_role(WATCH_ROLE, [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]),
    ]


def _cluster_role(name: str, rules: Sequence[Mapping[str, Sequence[str]]]) -> Manifest:
    return {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": make_metadata(name), "rules": list(rules)}


def make_files(config: KubernetesConfig, identity: str, server: Place) -> dict[str, list[Manifest]]:
    """Return what an administrator may apply instead of the server, by file.

    :param identity: the server's; see `make_role_binding`.
    """
    space = config.namespace
    return {
        "rbac.yaml": [
            *make_cluster_roles(identity),
            make_role(space),
            make_role_binding(space, identity),
            *make_pull_secrets_role(config, identity),
        ],
        "namespace.yaml": [make_namespace(space, config), make_service_account(space, config)],
        "quota.yaml": [make_quota(space, config)],
        "limit-range.yaml": [make_limit_range(space, config)],
        "network-policy.yaml": [make_network_policy(space, config, server)],
    }
