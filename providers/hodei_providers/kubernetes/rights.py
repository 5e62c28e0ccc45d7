"""What the server may do in a cluster, as pure functions of the configuration.

With one namespace it has rights there alone, and reads what nodes the cluster has. A server that makes namespaces has
them everywhere: RBAC knows no namespaces by how their names begin, and binding a role that runs pods, in any namespace,
comes to an administrator's rights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.metadata import make_metadata

Manifest = dict[str, Any]
Rule = Mapping[str, Sequence[str]]

#: The Role and RoleBinding of the server in a namespace.
SERVER = "hodei-server"
#: What a server without an administrator's rights needs to hold in a namespace; it is bound there.
JOBS_ROLE = "hodei-server-jobs"
#: What a server needs that makes one namespace's parts, and what one that makes namespaces by itself.
INFRASTRUCTURE_ROLE, NAMESPACES_ROLE = "hodei-server-infrastructure", "hodei-server-namespaces"
#: What belongs to no namespace and is read; the second is for a server whose tenants' namespaces others make.
CLUSTER_ROLE, TENANTS_ROLE = "hodei-server-cluster", "hodei-server-tenants"
#: What a server reads that copies pull secrets to tenants' namespaces, and what one may have that watches all at once.
PULL_SECRETS_ROLE, WATCH_ROLE = "hodei-server-pull-secrets", "hodei-server-watch"
_RBAC = "rbac.authorization.k8s.io"

#: What the server does in a namespace; nothing that runs a command in a pod, and no secret can be read back.
JOBS_RULES: Sequence[Rule] = (
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "list", "watch"]},
)
_MAKE = ["get", "create", "patch"]
#: What a namespace's parts are made with; RBAC lets nobody give rights that they lack, but those of a role to bind.
_PARTS_RULES: Sequence[Rule] = (
    {"apiGroups": [""], "resources": ["serviceaccounts", "resourcequotas", "limitranges"], "verbs": _MAKE},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": _MAKE},
    {"apiGroups": [_RBAC], "resources": ["rolebindings"], "verbs": _MAKE},
    {"apiGroups": [_RBAC], "resources": ["clusterroles"], "resourceNames": [JOBS_ROLE], "verbs": ["bind"]},
)
_CLUSTER_RULES: Sequence[Rule] = (
    # Nodes belong to no namespace: whether one is lost is asked of the cluster.
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
    # What nodes use, where somebody measures it.
    {"apiGroups": ["metrics.k8s.io"], "resources": ["nodes"], "verbs": ["get", "list"]},
)


def make_role(namespace: str) -> Manifest:
    """Return what the server may do in a namespace."""
    return _role(SERVER, JOBS_RULES, namespace)


def make_role_binding(namespace: str, identity: str, role: str = "Role") -> Manifest:
    """Return what gives the server its rights in a namespace.

    :param identity: a user, or ``system:serviceaccount:NAMESPACE:NAME``.
    :param role: `ClusterRole` where the server may not make a Role, but may bind that of an administrator.
    """
    binding = _binding(SERVER, identity, namespace)
    binding["roleRef"] |= {"kind": role, "name": SERVER if role == "Role" else JOBS_ROLE}
    return binding


def make_subject(identity: str) -> Manifest:
    """Return an identity as RBAC names it."""
    if identity.startswith("system:serviceaccount:"):
        namespace, _, name = identity.removeprefix("system:serviceaccount:").partition(":")
        return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return {"apiGroup": _RBAC, "kind": "User", "name": identity}


def make_cluster_roles(config: KubernetesConfig, identity: str) -> list[Manifest]:
    """Return what an administrator applies once that is of no namespace; one role is bound to the server everywhere.

    That is the one to make namespaces by where it does that, else one to read. Other servers in the cluster have the
    same roles, word for word, and bindings of their own: what is applied for one takes nothing from another.
    """
    listing = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]}
    making = {"apiGroups": [""], "resources": ["namespaces"], "verbs": [*_MAKE, "list"]}
    bound = CLUSTER_ROLE
    if config.dynamic_namespaces:
        bound = NAMESPACES_ROLE if config.ensure else TENANTS_ROLE
    return [
        _role(JOBS_ROLE, JOBS_RULES),
        _role(CLUSTER_ROLE, _CLUSTER_RULES),
        _role(TENANTS_ROLE, [*_CLUSTER_RULES, listing]),
        _role(NAMESPACES_ROLE, [*_CLUSTER_RULES, making, *_PARTS_RULES]),
        _binding(bound, identity),
        # Bound to nobody: with it a server watches the pods of all tenants at once, but sees everybody else's, too.
        _role(WATCH_ROLE, [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]),
    ]


def make_infrastructure_role(config: KubernetesConfig, identity: str) -> list[Manifest]:
    """Return the right to make and repair the parts of the one namespace, bound; nothing where that is not its task.

    The namespace itself can't be made by it: its rights are in there.
    """
    if config.dynamic_namespaces or not config.ensure:
        return []
    space = config.namespace
    itself = {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [space], "verbs": ["get", "patch"]}
    return [
        _role(INFRASTRUCTURE_ROLE, [itself, *_PARTS_RULES], space),
        _binding(INFRASTRUCTURE_ROLE, identity, space),
    ]


def make_pull_secrets_role(config: KubernetesConfig, identity: str) -> list[Manifest]:
    """Return the right to read the pull secrets that are copied to tenants' namespaces, and no others; bound."""
    if not (config.dynamic_namespaces and config.image_pull_secrets and config.ensure):
        return []
    rule = {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": list(config.image_pull_secrets),
        "verbs": ["get"],
    }
    space = config.namespace
    return [_role(PULL_SECRETS_ROLE, [rule], space), _binding(PULL_SECRETS_ROLE, identity, space)]


def _role(name: str, rules: Sequence[Rule], namespace: str = "") -> Manifest:
    """Return a role of a namespace; of the cluster without one."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "Role" if namespace else "ClusterRole",
        "metadata": make_metadata(name, namespace),
        "rules": [dict(rule) for rule in rules],
    }


def _binding(name: str, identity: str, namespace: str = "") -> Manifest:
    """Return what binds a role: in a namespace by the role's own name, in the whole cluster by the server's, too."""
    kind = "Role" if namespace else "ClusterRole"
    own_name = name if namespace else names.rbac_name(f"{name}:{identity}")
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": make_metadata(own_name, namespace),
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": name},
        "subjects": [make_subject(identity)],
    }
