"""Labels and annotations of what is made for a worker or a namespace, Hodei's own and a job's, as pure functions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import hodei
from hodei_providers.contract import LaunchRequest, Purpose
from hodei_providers.kubernetes import names
from hodei_providers.kubernetes.config import KubernetesConfig

#: All annotations of an object together, keys and values, as the API bounds them.
MAX_ANNOTATIONS = 256 << 10
#: Of that, what Hodei's own take at most: names that were cut, an authority.
OWN_ANNOTATIONS = 32 << 10
_LABELS = {"app.kubernetes.io/part-of": "hodei", "app.kubernetes.io/managed-by": "hodei", names.MANAGED: "true"}


def make_metadata(name: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the metadata of what is made for Hodei beside workers, with the labels that say so."""
    metadata: dict[str, Any] = {"name": name, "labels": {**_LABELS, **(labels or {})}}
    if namespace:
        metadata["namespace"] = namespace
    return metadata


def make_labels(request: LaunchRequest) -> Mapping[str, str]:
    """Return Hodei's own labels."""
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


def make_annotations(request: LaunchRequest, provider_name: str, ca_pem: bytes | None) -> Mapping[str, str]:
    """Return Hodei's own annotations.

    The provider, what was asked for, the whole of each name that was cut for its label, an authority.
    """
    asked = {name: value for name, value in dataclasses.asdict(request.resources).items() if value}
    annotations = {
        names.PROVIDER_ID: provider_name,
        names.ASKED: json.dumps(asked),
        **_cut(_full_names(request)),
    }
    if ca_pem is not None:
        annotations[names.SERVER_CA] = ca_pem.decode()
    return annotations


def _full_names(request: LaunchRequest) -> Mapping[str, str]:
    # The names of its one job stand with that job's own, see below.
    tenant = {key: value for key, value in request.labels.items() if key == "tenant" and value}
    return {names.WORKER_ID: request.worker_id, names.INSTANCE: request.installation_id, **_own(tenant)}


def _own(labels: Mapping[str, str]) -> Mapping[str, str]:
    return {names.OWN[key]: value for key, value in labels.items() if key in names.OWN}


def _cut(full: Mapping[str, str]) -> Mapping[str, str]:
    return {key: value for key, value in full.items() if names.label_value(value) != value}


def purpose_of(request: LaunchRequest) -> Purpose:
    """Return the job that a worker is launched for; one without a name where it is for none."""
    return Purpose(request.labels, request.job_labels, request.job_annotations)


def make_job_metadata(purpose: Purpose) -> Mapping[str, Mapping[str, str]]:
    """Return the labels and annotations that a pod has for its job: the job's own, and those that name it."""
    own = _own(purpose.labels)
    return {
        "labels": {**purpose.job_labels, **{key: names.label_value(value) for key, value in own.items() if value}},
        "annotations": {**purpose.job_annotations, **_cut(own)},
    }


def make_job_patch(name: str, namespace: str, purpose: Purpose) -> dict[str, Any]:
    """Return what a pod that is there is given for its job, as a configuration to apply: the next job's replaces it."""
    metadata = {"name": name, "namespace": namespace, **make_job_metadata(purpose)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def refused_names(
    labels: Mapping[str, str], annotations: Mapping[str, str], config: KubernetesConfig
) -> Mapping[str, str]:
    """Return which of a job's own names can't be on its pod, and why, by the field's path in a job."""
    found: dict[str, str] = {}
    patched = config.pod_template_patch.get("metadata", {})
    for field, given, fixed in (
        ("labels", labels, config.pod_labels),
        ("annotations", annotations, config.pod_annotations),
    ):
        for key in given:
            reason = names.label_key_error(key)
            if names.is_own(key):
                reason = "would replace one of Hodei's own"
            elif not reason and names.is_reserved(key):
                reason = "is reserved by Kubernetes; the setting HODEI_K8S_POD_" + field.upper() + " may have it"
            elif config.job_key_prefixes and not key.startswith(config.job_key_prefixes):
                reason = "does not begin as HODEI_K8S_JOB_KEY_PREFIXES says: " + ", ".join(config.job_key_prefixes)
            elif key in fixed:
                reason = "is set by HODEI_K8S_POD_" + field.upper()
            elif key in patched.get(field, {}):
                reason = "is set by HODEI_K8S_POD_TEMPLATE_PATCH"
            if reason:
                found[f"{field}[{key!r}]"] = reason
    most = MAX_ANNOTATIONS - OWN_ANNOTATIONS - _size(config.pod_annotations)
    if _size(annotations) > most:
        found["annotations"] = f"has at most {most} bytes in all on a pod"
    return found


def _size(annotations: Mapping[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
