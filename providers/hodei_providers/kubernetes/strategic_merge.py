"""A strategic merge patch of a pod, merged as the cluster's own API merges it (`kubectl patch --type strategic`).

Objects are merged, `null` removes a field, and lists whose elements have a name in Kubernetes' own schema are merged by
it; other lists are replaced. In a merged list the elements that a patch adds come before those that it does not name,
unless ``$setElementOrder`` says otherwise. What a patch sets where there was nothing is taken as it is.

==============================  ========================================================================
directive                       what it does
==============================  ========================================================================
``$patch``                      of an object: `replace` or empty it (`delete`); of an element of a merged
                                list: `delete` it, or `replace` the whole list by the other elements
``$retainKeys``                 removes the object's other fields
``$setElementOrder/FIELD``      the order of the elements of a merged list
``$deleteFromPrimitiveList/F``  removes values from a list of such
==============================  ========================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
PATCH, RETAIN, ORDER, REMOVE = "$patch", "$retainKeys", "$setElementOrder/", "$deleteFromPrimitiveList/"

Object = Mapping[str, Any]


def merge_patch(original: Object, patch: Object) -> dict[str, Any]:
    """Return what a patch makes of an object; neither is changed.

    :param patch: one that `patch_errors` finds nothing wrong with.
    """
    directive = patch.get(PATCH)
    if directive is not None:
        return {} if directive == "delete" else _as_written(patch)
    kept = patch.get(RETAIN)
    merged = {key: value for key, value in original.items() if kept is None or key in kept}
    for key, value in patch.items():
        if key.startswith(REMOVE):
            field = key.removeprefix(REMOVE)
            if isinstance(merged.get(field), list):
                merged[field] = [each for each in merged[field] if each not in value]
        elif value is None:
            merged.pop(key, None)
        elif not key.startswith("$"):
            _set(merged, key, value)
    for key, order in patch.items():
        field = key.removeprefix(ORDER)
        if key.startswith(ORDER) and field in merged:
            name = MERGED_BY[field]
            before = [each[name] for each in original.get(field, [])]
            merged[field] = _ordered(merged[field], [each[name] for each in order], before, name)
    return merged


def _set(merged: dict[str, Any], key: str, value: Any) -> None:
    there = merged.get(key)
    if isinstance(there, Mapping) and isinstance(value, Mapping):
        merged[key] = merge_patch(there, value)
    elif isinstance(there, list) and isinstance(value, list):
        merged[key] = _merge_lists(there, value, MERGED_BY[key]) if key in MERGED_BY else _as_written(value)
    elif isinstance(value, Mapping) and PATCH in value:
        merged.pop(key, None)
    else:
        merged[key] = _where_nothing_was(value)


def _merge_lists(original: Sequence[Object], patch: Sequence[Object], name: str) -> list[Any]:
    given = [each for each in patch if PATCH not in each]
    if any(each.get(PATCH) == "replace" for each in patch):
        return [_as_written(each) for each in given]
    gone = [each[name] for each in patch if PATCH in each]
    there = [each for each in original if each[name] not in gone]
    merged = list(there)
    for each in given:
        place = next((place for place, other in enumerate(merged) if other[name] == each[name]), None)
        if place is None:
            merged.append(_as_written(each))
        else:
            merged[place] = merge_patch(merged[place], each)
    return _ordered(merged, [each[name] for each in given], [each[name] for each in there], name)


def _ordered(elements: Sequence[Object], first: Sequence[Any], before: Sequence[Any], name: str) -> list[Object]:
    """Return elements in an order of some of them; each other one stands before the first of these that it preceded.

    :param first: the names of those whose order is told.
    :param before: all names as they were.
    """
    told = sorted((each for each in elements if each[name] in first), key=lambda each: first.index(each[name]))
    others = [each for each in elements if each[name] not in first]
    ordered: list[Object] = []
    for each in told:
        place = before.index(each[name]) if each[name] in before else -1
        while others and others[0][name] in before and before.index(others[0][name]) < place:
            ordered.append(others.pop(0))
        ordered.append(each)
    return [*ordered, *others]


def _where_nothing_was(value: Any) -> Any:
    """Return a value without fields that are null and without what is only there to be merged."""
    if isinstance(value, Mapping):
        return {
            key: _where_nothing_was(each)
            for key, each in value.items()
            if not key.startswith("$") and each is not None and not _is_directive(each)
        }
    return [_where_nothing_was(each) for each in value if not _is_directive(each)] if isinstance(value, list) else value


def _is_directive(value: Any) -> bool:
    return isinstance(value, Mapping) and PATCH in value


def _as_written(value: Any) -> Any:
    """Return a value whose directives nothing was done by: the API knows no such fields, and ignores them."""
    if isinstance(value, Mapping):
        return {key: _as_written(each) for key, each in value.items() if not key.startswith("$") and each is not None}
    return [_as_written(each) for each in value] if isinstance(value, list) else value


def patch_errors(patch: Object, path: str = "") -> Iterator[str]:
    """Yield what is no patch, by its path and with what was expected."""
    for key, value in patch.items():
        if key.startswith("$"):
            yield from (f"{path}{key}: {wrong}" for wrong in _directive_errors(patch, key, value))
        elif isinstance(value, Mapping):
            yield from patch_errors(value, f"{path}{key}.")
        elif isinstance(value, list):
            yield from _list_errors(key, value, f"{path}{key}")


def _directive_errors(patch: Object, key: str, value: Any) -> Iterator[str]:
    field = key.partition("/")[2]
    if key == PATCH:
        if value not in ("replace", "delete"):
            yield f"expected replace or delete, not {value!r}"
    elif key == RETAIN:
        given = [name for name, each in patch.items() if each is not None and not name.startswith("$")]
        if not isinstance(value, list) or any(name not in value for name in given):
            yield "expected a list of fields, with all that are set beside it"
    elif key.startswith(REMOVE):
        if field in MERGED_BY or not isinstance(value, list) or any(isinstance(each, Mapping) for each in value):
            yield "expected a list of texts or numbers, which the field is, too"
    elif not key.startswith(ORDER):
        yield f"the directive is not known; expected one of {PATCH}, {RETAIN}, {ORDER}…, {REMOVE}…"
    elif field not in MERGED_BY:
        yield f"expected one of the lists that are merged: {', '.join(MERGED_BY)}"
    else:
        yield from _order_errors(value, patch.get(field, []), MERGED_BY[field])


def _order_errors(order: Any, elements: Any, name: str) -> Iterator[str]:
    if not _is_named(order, name) or not isinstance(elements, list):
        yield f"expected objects with a {name}, and so in the field beside it"
    elif _is_named(elements, name):
        names = [each[name] for each in order]
        given = [each[name] for each in elements if PATCH not in each]
        if [each for each in names if each in given] != given:
            yield f"expected the {name} of every element that is set beside it, in the same order"


def _list_errors(field: str, value: Sequence[Any], path: str) -> Iterator[str]:
    if field not in MERGED_BY:
        if _has_directive(value):
            yield f"{path}: expected no directive, as this list is replaced as a whole"
        return
    name = MERGED_BY[field]
    for each in value:
        if not isinstance(each, Mapping):
            yield f"{path}: expected objects with a {name}"
        elif name in each:
            yield from patch_errors(each, f"{path}[{each[name]}].")
        elif each != {PATCH: "replace"}:
            yield f"{path}: expected a {name} in each element"


def _has_directive(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(key.startswith("$") or _has_directive(each) for key, each in value.items())
    return isinstance(value, list) and any(map(_has_directive, value))


def _is_named(value: Any, name: str) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) and name in each for each in value)
