"""Strategic merge patches of a worker's pod, merged here and by the cluster's own API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hodei_providers.contract import ProviderError
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.pod import Owner, make_pod
from hodei_providers.kubernetes.strategic_merge import merge_patch, patch_errors
from hodei_providers.testing import make_request

Patch = Mapping[str, Any]
CONFIG = KubernetesConfig(
    volumes=(
        {"name": "data", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "settings", "configMap": {"name": "settings", "items": [{"key": "a", "path": "a"}]}},
    ),
    volume_mounts=({"name": "data", "mountPath": "/data"}, {"name": "settings", "mountPath": "/settings"}),
    image_pull_secrets=("first", "second"),
    node_selector={"pool": "jobs", "zone": "a"},
    tolerations=({"key": "pool", "operator": "Exists"},),
    affinity={"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
)
PROXY = {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}
ALIASES = [{"ip": "10.0.0.1", "hostnames": ["a"]}, {"ip": "10.0.0.2", "hostnames": ["b"]}]
SPREAD = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}


def worker(**fields: Any) -> Patch:
    """Return a patch of the worker's container."""
    return {"containers": [{"name": "worker", **fields}]}


#: What is made of the pod's spec. Some of it is refused by the settings, as it would take a pod from Hodei.
SPECS: Mapping[str, Patch] = {
    "nothing": {},
    "a value": {"dnsPolicy": "Default", "hostUsers": False, "priority": 5},
    "null": {"nodeSelector": None, "imagePullSecrets": None, "enableServiceLinks": None, "hostAliases": None},
    "null inside": {"nodeSelector": {"zone": None, "other": None}, "securityContext": {"seccompProfile": None}},
    "null where nothing was": {"dnsConfig": {"nameservers": None, "searches": ["example.com"]}},
    "objects": {"nodeSelector": {"zone": "b", "disk": "fast"}, "securityContext": {"sysctls": [], "fsGroup": 7}},
    "objects in objects": {"affinity": {"nodeAffinity": {}, "podAntiAffinity": {"$patch": "delete"}}},
    "an object replaced": {"securityContext": {"$patch": "replace", "runAsUser": 7}},
    "an object emptied": {"affinity": {"$patch": "delete"}, "securityContext": {"$patch": "delete", "runAsUser": 7}},
    "an object replaced where nothing was": {"dnsConfig": {"$patch": "replace", "searches": ["example.com"]}},
    "an object with these fields": {"securityContext": {"$retainKeys": ["runAsUser", "runAsGroup"], "runAsUser": 7}},
    "a list that is no merged one": {"tolerations": [{"key": "new", "operator": "Exists"}]},
    "an empty list": {"tolerations": [], "volumes": []},
    "other lists": worker(
        securityContext={"capabilities": {"drop": ["NET_RAW"], "add": ["CHOWN"]}}, command=["a", "b"]
    ),
    "removed from a list": worker(**{"$deleteFromPrimitiveList/command": ["-m", "-I"]}),
    "another image": worker(image="other:1", resources={"limits": {"memory": "1Gi"}, "requests": {"cpu": None}}),
    "another container": {"containers": [{"name": "other", "image": "other:1"}]},
    "no container but one": {"containers": [{"$patch": "replace"}, {"name": "other", "image": "other:1"}]},
    "containers deleted": {"containers": [{"name": "worker", "$patch": "delete"}, {"name": "other", "image": "a"}]},
    "init containers": {"initContainers": [PROXY]},
    "init containers behind those there": {"initContainers": [{"name": "agent", "workingDir": "/a"}, PROXY]},
    "init containers in order": {
        "$setElementOrder/initContainers": [{"name": "agent"}, {"name": "proxy"}],
        "initContainers": [PROXY],
    },
    "a new container with directives": {
        "initContainers": [{**PROXY, "env": [{"name": "A", "$patch": "delete"}, {"name": "B", "value": None}]}]
    },
    "variables": worker(
        env=[
            {"name": "MINE", "value": "$(HODEI_WORKER_ID)"},
            {"name": "HODEI_LOG_LEVEL", "value": "debug"},
            {"name": "HODEI_TERM_GRACE", "$patch": "delete"},
            {"name": "LAST", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ]
    ),
    "a variable of another kind": worker(
        env=[{"name": "HODEI_LOG_LEVEL", "value": None, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    ),
    "variables in order": worker(
        **{
            "$setElementOrder/env": [{"name": "HODEI_WORKER_ID"}, {"name": "MINE"}, {"name": "HODEI_LOG_LEVEL"}],
            "env": [{"name": "MINE", "value": "$(HODEI_WORKER_ID)"}],
        }
    ),
    "an order alone": worker(**{"$setElementOrder/env": [{"name": "HODEI_WORKER_ID"}, {"name": "HODEI_LOG_LEVEL"}]}),
    "a variable twice": worker(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
    "all variables replaced": worker(env=[{"name": "A", "$patch": "replace"}, {"name": "B", "value": "b"}]),
    "mounts": worker(
        volumeMounts=[
            {"name": "data", "mountPath": "/more"},
            {"name": "data", "mountPath": "/data", "readOnly": True},
            {"mountPath": "/settings", "$patch": "delete"},
        ]
    ),
    "ports": worker(ports=[{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]),
    "a lifecycle and probes": worker(
        lifecycle={"preStop": {"exec": {"command": ["true"]}}}, readinessProbe={"tcpSocket": {"port": 1}}
    ),
    "volumes": {
        "volumes": [
            {"name": "new", "secret": {"secretName": "a"}},
            {"name": "data", "emptyDir": {"medium": "Memory"}},
            {"name": "settings", "configMap": {"items": [{"key": "b", "path": "b"}]}},
        ]
    },
    "a volume of another kind": {
        "volumes": [{"name": "data", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/a"}}]
    },
    "a volume of another kind by null": {"volumes": [{"name": "data", "emptyDir": None, "hostPath": {"path": "/a"}}]},
    "volumes and mounts deleted": {
        "volumes": [{"name": "data", "$patch": "delete"}],
        **worker(volumeMounts=[{"mountPath": "/data", "$patch": "delete"}]),
    },
    "volumes in order": {
        "$setElementOrder/volumes": [{"name": "settings"}, {"name": "new"}, {"name": "data"}],
        "volumes": [{"name": "new", "emptyDir": {}}],
    },
    "pull secrets": {"imagePullSecrets": [{"name": "third"}, {"name": "first"}]},
    "pull secrets replaced": {"imagePullSecrets": [{"$patch": "replace"}, {"name": "third"}]},
    "pull secrets deleted": {"imagePullSecrets": [{"name": "first", "$patch": "delete"}, {"name": "third"}]},
    "aliases": {"hostAliases": ALIASES},
    "aliases deleted where there were none": {"hostAliases": [{"ip": "10.0.0.3", "$patch": "delete"}, *ALIASES]},
    "spread": {"topologySpreadConstraints": [SPREAD, {**SPREAD, "topologyKey": "host"}]},
    "gates and claims": {
        "schedulingGates": [{"name": "example.com/gate"}],
        "resourceClaims": [{"name": "gpu", "resourceClaimName": "a"}],
    },
    "what there is no field for": {"noSuchField": {"a": 1}, **worker(noSuchField=["a"])},
}
#: What gives a pod what Hodei's own has not; and what is made of that then.
FULLER: Patch = {
    "hostAliases": ALIASES,
    "topologySpreadConstraints": [SPREAD],
    "initContainers": [{**PROXY, "ports": [{"containerPort": 53, "protocol": each} for each in ("UDP", "TCP")]}],
}
AGAIN: Mapping[str, Patch] = {
    "another alias, and more of one": {
        "hostAliases": [{"ip": "10.0.0.3", "hostnames": ["c"]}, {"ip": "10.0.0.1", "hostnames": ["d"]}]
    },
    "aliases deleted and in order": {
        "$setElementOrder/hostAliases": [{"ip": "10.0.0.3"}, {"ip": "10.0.0.2"}],
        "hostAliases": [{"ip": "10.0.0.1", "$patch": "delete"}, {"ip": "10.0.0.3", "hostnames": ["c"]}],
    },
    "spread by another key, and more by one": {
        "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 2}, {**SPREAD, "topologyKey": "host"}]
    },
    "no spread": {"topologySpreadConstraints": [{"topologyKey": "zone", "$patch": "delete"}]},
    "one port of two by the same number": {
        "initContainers": [{"name": "proxy", "ports": [{"containerPort": 8080}, {"containerPort": 53, "name": "dns"}]}]
    },
    "ports deleted": {
        "initContainers": [{"name": "proxy", "ports": [{"containerPort": 53, "$patch": "delete"}], "args": ["a"]}]
    },
    "an init container deleted": {"initContainers": [{"name": "proxy", "$patch": "delete"}]},
}
METADATA: Mapping[str, Patch] = {
    "labels": {"labels": {"team": "a", "app": None}, "annotations": {"example.com/a": "b"}},
    "labels replaced": {"labels": {"$patch": "replace", "team": "a"}, "annotations": {"$patch": "delete"}},
    "these labels": {"labels": {"$retainKeys": ["app"]}},
}
#: What is no patch, or makes no pod.
REFUSED: Mapping[str, Patch] = {
    "an unknown directive": {"affinity": {"$patch": "explode"}},
    "a directive that nothing knows yet": {"affinity": {"$patch": "merge"}},
    "a list's directive": {"volumes": [{"name": "data", "$patch": "merge"}]},
    "an element without its name": {"volumes": [{"emptyDir": {}}]},
    "an element that is none": {"volumes": ["data"]},
    "a field that is not kept": {"securityContext": {"$retainKeys": ["runAsUser"], "fsGroup": 7}},
    "fields to keep that are no list": {"securityContext": {"$retainKeys": "runAsUser"}},
    "an order that is none": {"$setElementOrder/volumes": {"name": "data"}},
    "an order of other elements": {
        "$setElementOrder/volumes": [{"name": "data"}],
        "volumes": [{"name": "new", "emptyDir": {}}],
    },
    "another order": {
        "$setElementOrder/volumes": [{"name": "settings"}, {"name": "data"}],
        "volumes": [{"name": "data"}, {"name": "settings"}],
    },
    "a text where a list is": {"tolerations": "all"},
    "a text where a merged list is": {"volumes": "all"},
    "a list where an object is": {"securityContext": []},
    "an object where a text is": {"dnsPolicy": {"a": "b"}},
    "a number where a text is": {"nodeSelector": {"zone": 1}},
    "a text where a number is": worker(ports=[{"containerPort": "80"}]),
    "an empty volume": {"volumes": [{"name": "data", "$retainKeys": ["name"], "hostPath": None, "nfs": {}}]},
}


def as_template(pod: Patch, name: str) -> dict[str, Any]:
    """Return a pod as what the API patches and checks like one, while it runs nothing by it."""
    metadata = {field: pod["metadata"][field] for field in ("labels", "annotations") if field in pod["metadata"]}
    template = {"metadata": metadata, "spec": pod["spec"]}
    return {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": template}


async def test_a_patch_makes_of_a_pod_what_the_clusters_own_api_makes_of_it(
    api: Any, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W37: with all that it adds to both; and what is no patch for one is none for the other."""
    path = f"/api/v1/namespaces/{namespace}/podtemplates"
    pod = make_pod(make_request(image="debian:stable-slim"), namespace, CONFIG, Owner("cluster"))
    fuller = merge_patch(pod, {"spec": FULLER})
    await api.create("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": namespace}})
    await api.create(path, as_template(pod, "pod"))
    await api.create(path, as_template(fuller, "fuller"))

    async def by_the_api(name: str, patch: Patch) -> Any:
        kind = "application/strategic-merge-patch+json"
        answer = await api._call("PATCH", f"{path}/{name}", {"dryRun": "All"}, {"template": patch}, content_type=kind)
        return answer["template"]

    async def by_us(original: Patch, patch: Patch) -> Any:
        return (await api.create(path, as_template(merge_patch(original, patch), "ours"), dryRun="All"))["template"]

    patches = {name: ("pod", pod, {"spec": patch}) for name, patch in SPECS.items()}
    patches |= {name: ("pod", pod, {"metadata": patch}) for name, patch in METADATA.items()}
    patches |= {name: ("fuller", fuller, {"spec": patch}) for name, patch in AGAIN.items()}
    assert {name: wrong for name, (*_, patch) in patches.items() if (wrong := list(patch_errors(patch)))} == {}
    made = {
        name: (await by_us(original, patch), await by_the_api(there, patch))
        for name, (there, original, patch) in patches.items()
    }
    assert {name: both for name, both in made.items() if both[0] != both[1]} == {}
    # Of some of these the API says that it fails, as if to be asked again.
    monkeypatch.setattr("hodei_providers.kubernetes.api.ATTEMPTS", 1)
    for name, patch in REFUSED.items():
        with pytest.raises(ProviderError):
            pytest.fail(f"{name}: {await by_the_api('pod', {'spec': patch})}")
        if not list(patch_errors({"spec": patch})):
            with pytest.raises(ProviderError):
                pytest.fail(f"{name}: {await by_us(pod, {'spec': patch})}")
