"""A strategic merge patch of workers' pods, as `kubectl patch --type strategic` takes it, and what it may not change.

Objects are merged, `null` removes a field, and lists whose elements have a name in Kubernetes' own schema are merged by
it; other lists are replaced. An object or an element may say ``$patch: replace`` or ``$patch: delete``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
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

#: Lists of a pod that are merged, and the field that tells their elements apart.
MERGED_BY = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "schedulingGates": "name",
}
_DIRECTIVE = "$patch"
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
_OWN_FOLDERS = (CREDENTIALS, TRUST, FOLDER, AGENT_FOLDER)


def merge_patch(original: Any, patch: Any, field: str = "") -> Any:
    """Return what a strategic merge patch makes of an object, a list or a value of a field; neither is changed.

    :raise ValueError: a directive is not known, or an element of a merged list has no name.
    """
    if isinstance(patch, Mapping):
        return _merge_objects(original if isinstance(original, Mapping) else {}, patch)
    if isinstance(patch, list) and field in MERGED_BY:
        return _merge_lists(original or [], patch, MERGED_BY[field])
    return patch


def _merge_objects(original: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    directive = _directive(patch)
    merged = {} if directive == "replace" else dict(original)
    for key, value in patch.items():
        deleted = isinstance(value, Mapping) and _directive(value) == "delete"
        if value is None or deleted:
            merged.pop(key, None)
        elif key != _DIRECTIVE:
            merged[key] = merge_patch(merged.get(key), value, key)
    return merged


def _merge_lists(original: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    if any(not isinstance(each, Mapping) for each in patch):
        raise ValueError(f"expected objects with a {key}")
    if any(each.keys() == {_DIRECTIVE} and _directive(each) == "replace" for each in patch):
        original = []
        patch = [each for each in patch if each.keys() != {_DIRECTIVE}]
    merged = {each[key]: each for each in original}
    for each in patch:
        if key not in each:
            raise ValueError(f"expected a {key} in each element")
        if _directive(each) == "delete":
            merged.pop(each[key], None)
        else:
            merged[each[key]] = _merge_objects(merged.get(each[key], {}), each)
    return list(merged.values())


def _directive(patch: Mapping[str, Any]) -> str:
    unknown = [key for key in patch if key.startswith("$") and key != _DIRECTIVE]
    directive = patch.get(_DIRECTIVE, "")
    if unknown or directive not in {"", "merge", "replace", "delete"}:
        raise ValueError(f"the directive {unknown[0] if unknown else directive!r} is not known")
    return str(directive)


def patch_violations(patch: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a patch: what it may not change, by its path, and what is no patch."""
    try:
        merge_patch({}, patch)
    except ValueError as error:
        yield str(error)
        return
    yield from _others(patch, {"metadata", "spec"}, "")
    yield from _metadata(_part(patch, "metadata"))
    spec = _part(patch, "spec")
    for key in sorted(spec.keys() & (_NOT_IN_SPEC | {_DIRECTIVE})):
        yield f"may not change spec.{key}"
    security = spec.get("securityContext", {})
    if not isinstance(security, Mapping) or security.keys() & {"fsGroup", _DIRECTIVE}:
        yield "may not change spec.securityContext.fsGroup, by which the worker reads its token"
    for field in ("containers", "initContainers", "volumes"):
        elements = spec.get(field, [])
        if not isinstance(elements, list) or any(each.keys() == {_DIRECTIVE} for each in elements):
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
    return value if isinstance(value, Mapping) else {_DIRECTIVE: "delete"}


def _others(given: Mapping[str, Any], known: set[str], prefix: str) -> Iterator[str]:
    for key in sorted(given.keys() - known):
        yield f"may not change {prefix}{key}"


def _metadata(metadata: Mapping[str, Any]) -> Iterator[str]:
    yield from _others(metadata, {"labels", "annotations"}, "metadata.")
    for field in ("labels", "annotations"):
        for key, value in _part(metadata, field).items():
            wrong = label_key_error(key) or (label_value_error(str(value)) if field == "labels" and value else "")
            if key == _DIRECTIVE or is_own(key):
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
    yield from _others(container, set(_IN_WORKER), f"spec.containers[{CONTAINER}].")
    for field in ("env", "volumeMounts"):
        elements = container.get(field, [])
        if not isinstance(elements, list) or any(each.keys() == {_DIRECTIVE} for each in elements):
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
