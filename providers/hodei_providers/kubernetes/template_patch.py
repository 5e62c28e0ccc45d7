"""What the settings' patch of workers' pods may not change."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from hodei_providers.agent import AGENT_FOLDER
from hodei_providers.kubernetes.layout import (
    AGENT_CONTAINER,
    CONTAINER,
    CREDENTIALS,
    FOLDER,
    HOME,
    TRUST,
    VOLUME_PREFIX,
)
from hodei_providers.kubernetes.names import is_own, label_key_error, label_value_error
from hodei_providers.kubernetes.strategic_merge import MERGED_BY, ORDER, PATCH, RETAIN, patch_errors

#: Of the pod's spec; the settings, the job or Hodei itself decide these.
_NOT_IN_SPEC = frozenset(
    {
        "restartPolicy",
        "serviceAccountName",
        "serviceAccount",
        "automountServiceAccountToken",
        "activeDeadlineSeconds",
        "terminationGracePeriodSeconds",
        "ephemeralContainers",
        "shareProcessNamespace",
        "hostname",
        "subdomain",
        "setHostnameAsFQDN",
        "resources",
    }
)
#: All that a patch may say of the worker's own container; its program, image and resources are the job's.
_IN_WORKER = frozenset(
    {"name", "env", "volumeMounts", "volumeDevices", "ports", "securityContext", "lifecycle", "workingDir"}
)
#: What says something of a whole object: what it is not to have, too.
_OF_ALL = frozenset({PATCH, RETAIN})
_OWN_FOLDERS = (CREDENTIALS, TRUST, FOLDER, AGENT_FOLDER)


def patch_violations(patch: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a patch: what it may not change, by its path, and what is no patch."""
    wrong = list(patch_errors(patch))
    if wrong:
        yield from wrong
        return
    yield from _others(patch, {"metadata", "spec"}, "")
    yield from _metadata(_part(patch, "metadata"))
    spec = _part(patch, "spec")
    for key in sorted(spec.keys() & (_NOT_IN_SPEC | _OF_ALL)):
        yield f"may not change spec.{key}"
    security = spec.get("securityContext", {})
    if not isinstance(security, Mapping) or security.keys() & ({"fsGroup"} | _OF_ALL):
        yield "may not change spec.securityContext.fsGroup, by which the worker reads its token"
    for field in ("containers", "initContainers", "volumes"):
        elements = spec.get(field, [])
        if not isinstance(elements, list) or any(each.get(PATCH) == "replace" for each in elements):
            yield f"may not replace spec.{field}"
            return
    for container in spec.get("containers", []):
        yield from _worker(container)
    if any(container["name"] in {AGENT_CONTAINER, CONTAINER} for container in spec.get("initContainers", [])):
        yield f"may not change spec.initContainers[{AGENT_CONTAINER}]"
    for volume in spec.get("volumes", []):
        if str(volume["name"]).startswith(VOLUME_PREFIX):
            yield f"may not change spec.volumes[{volume['name']}]: names that begin with {VOLUME_PREFIX} are Hodei's"


def _part(patch: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = patch.get(key, {})
    return value if isinstance(value, Mapping) else {PATCH: "delete"}


def _others(given: Mapping[str, Any], known: AbstractSet[str], prefix: str) -> Iterator[str]:
    for key in sorted(given.keys() - known):
        yield f"may not change {prefix}{key}"


def _metadata(metadata: Mapping[str, Any]) -> Iterator[str]:
    yield from _others(metadata, {"labels", "annotations"}, "metadata.")
    for field in ("labels", "annotations"):
        for key, value in _part(metadata, field).items():
            wrong = label_key_error(key) or (label_value_error(str(value)) if field == "labels" and value else "")
            if key == PATCH or is_own(key):
                yield f"may not change metadata.{field}[{key!r}]"
            elif wrong or not isinstance(value, str | None):
                yield f"metadata.{field}[{key!r}]: {wrong or 'expected a text'}"


def _worker(container: Mapping[str, Any]) -> Iterator[str]:
    name = container["name"]
    if name != CONTAINER:
        yield (
            f"may not add spec.containers[{name}], which would keep a finished pod alive: a sidecar is one of "
            "initContainers, with restartPolicy Always"
        )
        return
    orders = {f"{ORDER}{field}" for field in _IN_WORKER & MERGED_BY.keys()}
    yield from _others(container, _IN_WORKER | orders, f"spec.containers[{CONTAINER}].")
    for field in ("env", "volumeMounts"):
        elements = container.get(field, [])
        if not isinstance(elements, list) or any(each.get(PATCH) == "replace" for each in elements):
            yield f"may not replace spec.containers[{CONTAINER}].{field}"
            return
    for variable in container.get("env", []):
        if str(variable["name"]).startswith("HODEI_"):
            yield f"may not change spec.containers[{CONTAINER}].env[{variable['name']}]"
    for mount in container.get("volumeMounts", []):
        # As the container has it, however it is written.
        path = f"/{posixpath.normpath('/' + str(mount['mountPath'])).strip('/')}/".replace("//", "/")
        covers = any(f"{own}/".startswith(path) for own in (*_OWN_FOLDERS, HOME, "/tmp"))  # noqa: S108 - the pod's own
        if covers or any(path.startswith(f"{own}/") for own in _OWN_FOLDERS):
            yield f"may not mount over {mount['mountPath']} of the worker"
