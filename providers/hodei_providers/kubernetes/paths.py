"""Where the API has the pods and secrets of workers."""

from __future__ import annotations

from hodei_providers.kubernetes import names

#: Pods of every namespace.
EVERYWHERE = "/api/v1/pods"


def pods_path(namespace: str) -> str:
    """Return the path of a namespace's pods."""
    return f"/api/v1/namespaces/{namespace}/pods"


def pod_path(namespace: str, worker_id: str) -> str:
    """Return the path of a worker's pod."""
    return f"{pods_path(namespace)}/{names.worker_name(worker_id)}"


def secrets_path(namespace: str) -> str:
    """Return the path of a namespace's secrets."""
    return f"/api/v1/namespaces/{namespace}/secrets"


def secret_path(namespace: str, worker_id: str) -> str:
    """Return the path of the secret with a worker's token."""
    return f"{secrets_path(namespace)}/{names.worker_name(worker_id)}"
