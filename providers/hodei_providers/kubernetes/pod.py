"""The pod of a worker and the secret beside it, as pure functions of what is asked and of the configuration."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from hodei.quantities import format_size, parse_size
from hodei_providers.agent import AGENT_COMMAND, AGENT_FOLDER, copy_command, scratch_folders
from hodei_providers.contract import LaunchRequest, Purpose
from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.layout import (
    AGENT_CONTAINER,
    AGENT_TARGET,
    AUTHORITY,
    CONTAINER,
    CREDENTIALS,
    FOLDER,
    HOME,
    SCRATCH,
    TOKEN,
    TRUST,
)
from hodei_providers.kubernetes.metadata import make_annotations, make_job_metadata, make_labels, purpose_of
from hodei_providers.kubernetes.options import ImageUser, OtpDelivery, PodSecurityStandard
from hodei_providers.kubernetes.resources import gpu_resource, gpu_toleration, make_agent_resources, make_resources
from hodei_providers.kubernetes.strategic_merge import merge_patch

Manifest = dict[str, Any]

#: The bound of the volume that the agent is copied to.
AGENT_SIZE = "512Mi"
#: The user of the worker's image, and of every pod under the standard `restricted`.
UID = 1000
#: What a worker needs beyond its job's grace to send the rest of the log.
DRAIN_SECONDS = 10
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


def make_secret(request: LaunchRequest, namespace: str) -> Manifest:
    """Return the secret that holds a worker's one-time token, and nothing else: it goes once that is burnt."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.worker_name(request.worker_id),
            "namespace": namespace,
            "labels": make_labels(request),
        },
        "type": "Opaque",
        "data": {TOKEN: base64.b64encode(request.otp.encode()).decode()},
    }


def make_pod(
    request: LaunchRequest, namespace: str, config: KubernetesConfig, owner: Owner, *, own_user: bool = True
) -> Manifest:
    """Return a worker's pod; the API server of a namespace that enforces the standard `restricted` accepts it.

    :param own_user: under that standard, a job's own image runs as the image's own user, unless the settings say not.
    :raise UnsupportedRequestError: no GPU of the type that is asked for is configured.
    """
    strict = config.pod_security_standard is PodSecurityStandard.RESTRICTED
    spec: Manifest = {
        "restartPolicy": "Never",
        "serviceAccountName": config.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _grace_seconds(request, config),
        "securityContext": _pod_security(request, config, strict=strict, own_user=own_user),
        "containers": [_container(request, config, owner, strict=strict)],
        "volumes": [*_volumes(request, config, owner), *map(dict, config.volumes)],
        "tolerations": [*_tolerations(request, config)],
    }
    if request.deadline:
        spec["activeDeadlineSeconds"] = math.ceil(request.deadline)
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
    # A pod that may run several jobs is given the names of each in turn, the first included.
    job_names = make_job_metadata(purpose_of(request) if request.max_jobs == 1 else Purpose({}, {}, {}))
    pod: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": names.worker_name(request.worker_id),
            "namespace": namespace,
            "labels": {**job_names["labels"], **config.pod_labels, **make_labels(request)},
            "annotations": {
                **job_names["annotations"],
                **config.pod_annotations,
                **make_annotations(request, owner.provider_name, owner.ca_pem),
            },
        },
        "spec": spec,
    }
    return merge_patch(pod, config.pod_template_patch)


def image_user(config: KubernetesConfig) -> str:
    """Return as whom a job's own image runs, in words; empty where that is the image's user, whoever it is."""
    if config.pod_security_standard is not PodSecurityStandard.RESTRICTED:
        return ""
    return {
        ImageUser.AUTO: f"its own user where that is a number and not 0, else user {UID}",
        ImageUser.FIXED: f"user {UID}",
        ImageUser.OWN: "its own user, a number and not 0",
    }[config.image_user]


def _grace_seconds(request: LaunchRequest, config: KubernetesConfig) -> int:
    return max(config.termination_grace, math.ceil(request.grace) + DRAIN_SECONDS)


def as_fixed_user(pod: Mapping[str, Any]) -> Manifest:
    """Return what makes a pod again that is there, in its place, under the user of the worker's image.

    What the cluster has added is kept where a client may say it, so that it is another pod in nothing else.
    """
    metadata = {key: pod["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    spec = {key: value for key, value in pod["spec"].items() if key not in {"nodeName", "ephemeralContainers"}}
    spec["securityContext"] = {**spec["securityContext"], "runAsUser": UID, "runAsGroup": UID}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _pod_security(request: LaunchRequest, config: KubernetesConfig, *, strict: bool, own_user: bool) -> Manifest:
    # The group is what lets the worker read its token and write its folders, whoever it runs as.
    context: Manifest = {"fsGroup": UID, "seccompProfile": {"type": "RuntimeDefault"}}
    if strict or not request.image:
        context["runAsNonRoot"] = True
        if not request.image or not own_user or config.image_user is ImageUser.FIXED:
            context |= {"runAsUser": UID, "runAsGroup": UID}
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
        "volumeMounts": [*_mounts(request, owner), *map(dict, config.volume_mounts)],
        # What the agent says last is what explains why it never came.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _agent_container(request: LaunchRequest, config: KubernetesConfig, *, strict: bool) -> Manifest:
    """Return what brings the agent to an image that has none; it runs before the worker's container."""
    return {
        "name": AGENT_CONTAINER,
        "image": config.worker_image,
        "imagePullPolicy": config.image_pull_policy.value,
        "command": list(copy_command(AGENT_TARGET)),
        "env": [{"name": "HODEI_WORKER_DIR", "value": FOLDER}],
        "resources": make_agent_resources(request, config),
        "securityContext": _container_security(config, strict=strict),
        "volumeMounts": [{"name": "hodei-agent", "mountPath": AGENT_TARGET}],
    }


def _environment(request: LaunchRequest, config: KubernetesConfig, owner: Owner) -> Iterator[Manifest]:
    scratch = scratch_folders(SCRATCH, [str(mount["mountPath"]) for mount in config.volume_mounts])
    values = {
        **request.worker_environment(FOLDER, scratch),
        # The cluster waits for no job: it is asked to end at once, and has what the pod's own grace leaves.
        "HODEI_TERM_GRACE": str(_grace_seconds(request, config) - DRAIN_SECONDS),
    }
    if owner.ca_pem is not None:
        values["HODEI_TLS_CA"] = f"{TRUST}/{AUTHORITY}"
    if config.otp_delivery is OtpDelivery.FILE:
        values["HODEI_OTP_TOKEN_FILE"] = f"{CREDENTIALS}/{TOKEN}"
    else:
        reference = {"name": names.worker_name(request.worker_id), "key": TOKEN}
        yield {"name": "HODEI_OTP_TOKEN", "valueFrom": {"secretKeyRef": reference}}
    for name, value in sorted(values.items()):
        yield {"name": name, "value": value}


def _tolerations(request: LaunchRequest, config: KubernetesConfig) -> Iterator[Manifest]:
    yield from map(dict, config.tolerations)
    for key in _LOST:
        seconds = config.toleration_seconds
        yield {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
    if request.resources.gpu_count:
        yield gpu_toleration(gpu_resource(request, config))


def _volumes(request: LaunchRequest, config: KubernetesConfig, owner: Owner) -> Iterator[Manifest]:
    disk = request.resources.disk_bytes or parse_size(config.default_storage_limit)
    folder = disk + parse_size(config.spool_storage)
    for name, size in (("hodei-tmp", disk), ("hodei-home", disk), ("hodei-worker", folder)):
        yield {"name": name, "emptyDir": {"sizeLimit": format_size(size)}}
    if request.image:
        yield {"name": "hodei-agent", "emptyDir": {"sizeLimit": AGENT_SIZE}}
    # Read by the owner and the pod's own group, which every process of the worker is in. Optional: the file goes with
    # the secret, once the token is burnt.
    secret = {"secretName": names.worker_name(request.worker_id), "defaultMode": 0o440, "optional": True}
    yield {"name": "hodei-credentials", "secret": secret}
    if owner.ca_pem is not None:
        field = {"fieldPath": f"metadata.annotations['{names.SERVER_CA}']"}
        yield {"name": "hodei-trust", "downwardAPI": {"items": [{"path": AUTHORITY, "fieldRef": field}]}}


def _mounts(request: LaunchRequest, owner: Owner) -> Iterator[Manifest]:
    yield {"name": "hodei-tmp", "mountPath": "/tmp"}  # noqa: S108 - the pod's own
    yield {"name": "hodei-home", "mountPath": HOME}
    yield {"name": "hodei-worker", "mountPath": FOLDER}
    yield {"name": "hodei-credentials", "mountPath": CREDENTIALS, "readOnly": True}
    if owner.ca_pem is not None:
        yield {"name": "hodei-trust", "mountPath": TRUST, "readOnly": True}
    if request.image:
        yield {"name": "hodei-agent", "mountPath": AGENT_FOLDER, "readOnly": True}
