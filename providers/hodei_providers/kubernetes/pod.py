"""The pod of a worker and the secret beside it, as pure functions of what is asked and of the configuration."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import hodei
from hodei.quantities import format_size, parse_cpu, parse_size
from hodei_providers.agent import AGENT_COMMAND, AGENT_FOLDER, copy_command
from hodei_providers.contract import LaunchRequest, Resources, UnsupportedRequestError
from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.config import KubernetesConfig, OtpDelivery, PodSecurityStandard

Manifest = dict[str, Any]

CONTAINER, AGENT_CONTAINER = "worker", "agent"
#: Where the init container has the volume that it copies the agent to, and the bound of that.
AGENT_TARGET, AGENT_SIZE = "/agent", "512Mi"
#: The user of the worker's image, and of every pod under the standard `restricted`.
UID = 1000
HOME = "/home/hodei"
#: Where the worker keeps its jobs' folders and what overflows of their logs.
FOLDER = "/var/lib/hodei-worker"
CREDENTIALS = "/run/hodei/credentials"
TOKEN, AUTHORITY = "token", "ca.crt"
#: Taints of a node that is lost; a pod would stay there for five minutes.
_LOST = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """Whose pod it is, beside its installation.

    :param provider_name: what jobs call the provider.
    :param ca_pem: the authority to trust for the server's address.
    """

    provider_name: str
    ca_pem: bytes | None = None


def make_secret(request: LaunchRequest, namespace: str, owner: Owner) -> Manifest:
    """Return the secret that holds a worker's one-time token, and the authority that it trusts."""
    data = {TOKEN: base64.b64encode(request.otp.encode()).decode()}
    if owner.ca_pem is not None:
        data[AUTHORITY] = base64.b64encode(owner.ca_pem).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.worker_name(request.worker_id),
            "namespace": namespace,
            "labels": _labels(request),
        },
        "type": "Opaque",
        "data": data,
    }


def make_pod(request: LaunchRequest, namespace: str, config: KubernetesConfig, owner: Owner) -> Manifest:
    """Return a worker's pod; the API server of a namespace that enforces the standard `restricted` accepts it.

    :raise UnsupportedRequestError: no GPU of the type that is asked for is configured.
    """
    strict = config.pod_security_standard is PodSecurityStandard.RESTRICTED
    spec: Manifest = {
        "restartPolicy": "Never",
        "serviceAccountName": config.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": config.termination_grace,
        "securityContext": _pod_security(request, strict=strict),
        "containers": [_container(request, config, owner, strict=strict)],
        "volumes": [*_volumes(request, config), *map(dict, config.volumes)],
        "tolerations": [*_tolerations(request, config)],
    }
    if request.image:
        spec["initContainers"] = [_agent_container(request, config, strict=strict)]
    if config.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in config.image_pull_secrets]
    if config.node_selector:
        spec["nodeSelector"] = dict(config.node_selector)
    if config.affinity:
        spec["affinity"] = dict(config.affinity)
    if config.priority_class:
        spec["priorityClassName"] = config.priority_class
    if config.runtime_class:
        spec["runtimeClassName"] = config.runtime_class
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": names.worker_name(request.worker_id),
            "namespace": namespace,
            "labels": {**config.pod_labels, **_labels(request)},
            "annotations": {**config.pod_annotations, **_annotations(request, owner)},
        },
        "spec": spec,
    }


def _full_names(request: LaunchRequest) -> Mapping[str, str]:
    told = {names.OWN[key]: value for key, value in request.labels.items() if key in names.OWN}
    return {names.WORKER_ID: request.worker_id, names.INSTANCE: request.installation_id, **told}


def _labels(request: LaunchRequest) -> Mapping[str, str]:
    return {
        "app": names.APP,
        "app.kubernetes.io/name": names.APP,
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/part-of": "hodei",
        "app.kubernetes.io/managed-by": "hodei",
        "app.kubernetes.io/instance": names.label_value(request.worker_id),
        "app.kubernetes.io/version": names.label_value(hodei.__version__),
        names.MANAGED: "true",
        names.PROVIDER: "Kubernetes",
        **{key: names.label_value(value) for key, value in _full_names(request).items()},
    }


def _annotations(request: LaunchRequest, owner: Owner) -> Mapping[str, str]:
    cut = {key: value for key, value in _full_names(request).items() if names.label_value(value) != value}
    return {names.PROVIDER_ID: owner.provider_name, **cut}


def _pod_security(request: LaunchRequest, *, strict: bool) -> Manifest:
    # The group is what lets the worker read its token and write its folders, whoever it runs as.
    context: Manifest = {"fsGroup": UID, "seccompProfile": {"type": "RuntimeDefault"}}
    if strict or not request.image:
        context |= {"runAsNonRoot": True, "runAsUser": UID, "runAsGroup": UID}
    return context


def _container_security(config: KubernetesConfig, *, strict: bool) -> Manifest:
    context: Manifest = {"readOnlyRootFilesystem": config.read_only_root}
    if strict:
        context |= {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "privileged": False}
    return context


def _container(request: LaunchRequest, config: KubernetesConfig, owner: Owner, *, strict: bool) -> Manifest:
    return {
        "name": CONTAINER,
        "image": request.image or config.worker_image,
        "imagePullPolicy": config.image_pull_policy.value,
        # In place of the image's ENTRYPOINT and CMD.
        "command": list(AGENT_COMMAND),
        "env": [*_environment(request, config, owner)],
        "resources": make_resources(request, config),
        "securityContext": _container_security(config, strict=strict),
        "volumeMounts": [*_mounts(request), *map(dict, config.volume_mounts)],
        # What the agent says last is what explains why it never came.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _agent_container(request: LaunchRequest, config: KubernetesConfig, *, strict: bool) -> Manifest:
    """Return what brings the agent to an image that has none; it runs before, so its resources come on top of none."""
    resources = make_resources(dataclasses.replace(request, resources=Resources()), config)
    return {
        "name": AGENT_CONTAINER,
        "image": config.worker_image,
        "imagePullPolicy": config.image_pull_policy.value,
        "command": list(copy_command(AGENT_TARGET)),
        "env": [{"name": "HODEI_WORKER_DIR", "value": FOLDER}],
        "resources": {
            "requests": {**resources["requests"], "cpu": "100m", "memory": "64Mi"},
            "limits": resources["limits"],
        },
        "securityContext": _container_security(config, strict=strict),
        "volumeMounts": [{"name": "hodei-agent", "mountPath": AGENT_TARGET}],
    }


def _environment(request: LaunchRequest, config: KubernetesConfig, owner: Owner) -> Iterator[Manifest]:
    values = {
        **request.environment,
        "HODEI_WORKER_ID": request.worker_id,
        "HODEI_INSTALLATION_ID": request.installation_id,
        "HODEI_SERVER_ADDRESS": request.server_address,
        "HODEI_WORKER_DIR": FOLDER,
        "HODEI_MAX_JOBS": str(request.max_jobs),
    }
    if owner.ca_pem is not None:
        values["HODEI_TLS_CA"] = f"{CREDENTIALS}/{AUTHORITY}"
    if config.otp_delivery is OtpDelivery.FILE:
        values["HODEI_OTP_TOKEN_FILE"] = f"{CREDENTIALS}/{TOKEN}"
    else:
        reference = {"name": names.worker_name(request.worker_id), "key": TOKEN}
        yield {"name": "HODEI_OTP_TOKEN", "valueFrom": {"secretKeyRef": reference}}
    for name, value in sorted(values.items()):
        yield {"name": name, "value": value}


def make_resources(request: LaunchRequest, config: KubernetesConfig) -> Manifest:
    """Return what a worker's container gets: what is asked as request and limit both, else the defaults (W37).

    :raise UnsupportedRequestError: no GPU of the type that is asked for is configured.
    """
    asked = request.resources
    spool = parse_size(config.spool_storage)
    storage = [parse_size(config.default_storage_request), parse_size(config.default_storage_limit)]
    if asked.disk_bytes:
        storage = [asked.disk_bytes + spool, asked.disk_bytes]
    memory = [parse_size(config.default_memory_request), parse_size(config.default_memory_limit)]
    if asked.memory_bytes:
        memory = [asked.memory_bytes + parse_size(config.agent_memory)] * 2
    cpu = [parse_cpu(config.default_cpu_request), parse_cpu(config.default_cpu_limit)]
    if asked.cpu_millis:
        cpu = [asked.cpu_millis] * 2
    requests = {"cpu": f"{cpu[0]}m", "memory": format_size(memory[0]), "ephemeral-storage": format_size(storage[0])}
    limits = {
        "cpu": f"{cpu[1]}m",
        "memory": format_size(memory[1]),
        "ephemeral-storage": format_size(storage[1] + spool),
    }
    if asked.gpu_count:
        resource = _gpu_resource(request, config)
        requests[resource] = limits[resource] = str(asked.gpu_count)
    return {"requests": requests, "limits": limits}


def _gpu_resource(request: LaunchRequest, config: KubernetesConfig) -> str:
    kind = request.resources.gpu_type or "default"
    if kind not in config.gpu_resources:
        known = ", ".join(sorted(config.gpu_resources)) or "none"
        field = "resources.gpu_type" if request.resources.gpu_type else "resources.gpu_count"
        raise UnsupportedRequestError(field, f"there is no GPU of type {kind!r} in this cluster; known are: {known}")
    return config.gpu_resources[kind]


def _tolerations(request: LaunchRequest, config: KubernetesConfig) -> Iterator[Manifest]:
    yield from map(dict, config.tolerations)
    for key in _LOST:
        seconds = config.toleration_seconds
        yield {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
    if request.resources.gpu_count:
        yield {"key": _gpu_resource(request, config), "operator": "Exists", "effect": "NoSchedule"}


def _volumes(request: LaunchRequest, config: KubernetesConfig) -> Iterator[Manifest]:
    disk = request.resources.disk_bytes or parse_size(config.default_storage_limit)
    folder = disk + parse_size(config.spool_storage)
    for name, size in (("hodei-tmp", disk), ("hodei-home", disk), ("hodei-worker", folder)):
        yield {"name": name, "emptyDir": {"sizeLimit": format_size(size)}}
    if request.image:
        yield {"name": "hodei-agent", "emptyDir": {"sizeLimit": AGENT_SIZE}}
    # Read by the owner and the pod's own group, which every process of the worker is in.
    secret = {"secretName": names.worker_name(request.worker_id), "defaultMode": 0o440}
    yield {"name": "hodei-credentials", "secret": secret}


def _mounts(request: LaunchRequest) -> Iterator[Manifest]:
    yield {"name": "hodei-tmp", "mountPath": "/tmp"}  # noqa: S108 - the pod's own
    yield {"name": "hodei-home", "mountPath": HOME}
    yield {"name": "hodei-worker", "mountPath": FOLDER}
    yield {"name": "hodei-credentials", "mountPath": CREDENTIALS, "readOnly": True}
    if request.image:
        yield {"name": "hodei-agent", "mountPath": AGENT_FOLDER, "readOnly": True}
