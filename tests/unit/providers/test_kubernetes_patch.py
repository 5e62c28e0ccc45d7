"""The patch of pods that the settings may hold, without a cluster."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hodei_providers.config import ConfigError
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.metadata import refused_names
from hodei_providers.kubernetes.pod import Owner, make_pod
from hodei_providers.kubernetes.strategic_merge import merge_patch
from hodei_providers.testing import make_request


def patched(patch: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Return a pod that a patch was applied to."""
    config = KubernetesConfig(pod_template_patch=patch, **settings)
    return make_pod(make_request(image="debian:stable-slim"), "space", config, Owner("cluster"))


def test_objects_are_merged_and_lists_by_the_names_of_their_elements() -> None:
    """As Kubernetes does it; what is patched is left as it was."""
    original = {
        "spec": {
            "a": {"b": 1, "c": 2},
            "volumes": [{"name": "x", "emptyDir": {}}, {"name": "y", "emptyDir": {"sizeLimit": "1Gi"}}],
            "tolerations": [{"key": "old"}],
        }
    }
    before = copy.deepcopy(original)
    patch = {
        "spec": {
            "a": {"b": None, "d": 3},
            "volumes": [
                {"name": "y", "emptyDir": {"medium": "Memory"}},
                {"name": "z"},
                {"name": "x", "$patch": "delete"},
            ],
            "tolerations": [{"key": "new"}],
        }
    }
    assert merge_patch(original, patch)["spec"] == {
        "a": {"c": 2, "d": 3},
        "volumes": [{"name": "y", "emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}}, {"name": "z"}],
        "tolerations": [{"key": "new"}],
    }
    assert original == before


def test_directives_do_what_the_clusters_api_does_by_them() -> None:
    """What that is, a test on a real one shows."""
    there = {"a": {"b": 1, "c": 2}, "volumes": [{"name": "x", "b": 1, "c": 2}, {"name": "y"}], "args": ["1", "2"]}

    def merged(**patch: Any) -> dict[str, Any]:
        return merge_patch(there, patch)

    def names(**patch: Any) -> list[str]:
        return [each["name"] for each in merge_patch(there, patch)["volumes"]]

    assert merged(a={"$patch": "replace", "e": 1})["a"] == {"e": 1}
    assert merged(a={"$patch": "delete", "e": 1})["a"] == {}
    assert merged(a={"$retainKeys": ["c", "e"], "e": 1})["a"] == {"c": 2, "e": 1}
    assert merged(volumes=[{"name": "x", "$retainKeys": ["name", "c"]}])["volumes"][0] == {"name": "x", "c": 2}
    assert names(volumes=[{"$patch": "replace"}, {"name": "only"}]) == ["only"]
    assert names(volumes=[{"name": "x", "$patch": "replace"}, {"name": "only"}]) == ["only"]
    assert names(volumes=[{"name": "z"}]) == ["z", "x", "y"]
    assert names(volumes=[{"name": "y"}, {"name": "z"}]) == ["x", "y", "z"]
    assert names(**{"$setElementOrder/volumes": [{"name": "y"}, {"name": "x"}]}) == ["y", "x"]
    order = [{"name": "x"}, {"name": "z"}, {"name": "y"}]
    assert names(**{"$setElementOrder/volumes": order}, volumes=[{"name": "z"}]) == ["x", "z", "y"]
    assert merged(**{"$deleteFromPrimitiveList/args": ["1"]})["args"] == ["2"]
    # Where there was nothing to do it to.
    assert "d" not in merged(d={"$patch": "replace", "e": 1})
    assert merged(d={"e": None, "f": {"$patch": "delete"}, "g": 1})["d"] == {"g": 1}
    assert merged(env=[{"name": "a", "$patch": "delete"}, {"name": "b"}])["env"] == [{"name": "b"}]
    ports = [{"containerPort": 53, "protocol": each} for each in ("TCP", "UDP")]
    assert merged(ports=ports)["ports"] == ports


def test_a_patch_reaches_the_pod_beside_what_is_hodeis() -> None:
    """Labels, a sidecar, variables, mounts, and what there is no setting for."""
    pod = patched(
        {
            "metadata": {"labels": {"team": "a"}, "annotations": {"sidecar.example/inject": "no"}},
            "spec": {
                "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
                "initContainers": [{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}],
                "containers": [
                    {
                        "name": "worker",
                        "env": [{"name": "HTTPS_PROXY", "value": "http://127.0.0.1:1"}],
                        "volumeMounts": [{"name": "certificates", "mountPath": "/etc/ssl/own"}],
                    }
                ],
                "volumes": [{"name": "certificates", "configMap": {"name": "certificates"}}],
            },
        }
    )
    assert pod["metadata"]["labels"].items() >= {"team": "a", "app": "hodei-jobs-worker"}.items()
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["proxy", "agent"]
    (worker,) = pod["spec"]["containers"]
    assert worker["image"] == "debian:stable-slim"
    assert {"HTTPS_PROXY", "HODEI_WORKER_ID"} <= {each["name"] for each in worker["env"]}
    assert {"certificates", "hodei-worker"} <= {each["name"] for each in worker["volumeMounts"]}
    assert pod["spec"]["dnsConfig"]


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"kind": "Job"}, "kind"),
        ({"metadata": {"name": "mine"}}, "metadata.name"),
        ({"metadata": {"finalizers": ["a/b"]}}, "metadata.finalizers"),
        ({"metadata": {"labels": {"hodei.io/instance": "x"}}}, "metadata.labels['hodei.io/instance']"),
        ({"metadata": {"labels": {"app": None}}}, "metadata.labels['app']"),
        ({"metadata": {"labels": {"team": "no value"}}}, "metadata.labels['team']"),
        ({"metadata": {"annotations": None}}, "metadata.annotations"),
        ({"spec": None}, "spec"),
        ({"spec": {"$patch": "replace"}}, "spec.$patch"),
        ({"spec": {"restartPolicy": "Always"}}, "spec.restartPolicy"),
        ({"spec": {"serviceAccountName": "admin"}}, "spec.serviceAccountName"),
        ({"spec": {"automountServiceAccountToken": True}}, "spec.automountServiceAccountToken"),
        ({"spec": {"activeDeadlineSeconds": 1}}, "spec.activeDeadlineSeconds"),
        ({"spec": {"securityContext": {"fsGroup": 0}}}, "spec.securityContext.fsGroup"),
        ({"spec": {"containers": None}}, "spec.containers"),
        ({"spec": {"containers": [{"$patch": "replace"}]}}, "spec.containers"),
        ({"spec": {"containers": [{"name": "other", "image": "a"}]}}, "spec.containers[other]"),
        ({"spec": {"containers": [{"name": "worker", "$patch": "delete"}]}}, "spec.containers[worker].$patch"),
        ({"spec": {"containers": [{"name": "worker", "image": "a"}]}}, "spec.containers[worker].image"),
        ({"spec": {"containers": [{"name": "worker", "command": ["a"]}]}}, "spec.containers[worker].command"),
        ({"spec": {"containers": [{"name": "worker", "resources": {}}]}}, "spec.containers[worker].resources"),
        ({"spec": {"containers": [{"name": "worker", "envFrom": []}]}}, "spec.containers[worker].envFrom"),
        ({"spec": {"containers": [{"name": "worker", "env": [{"name": "HODEI_WORKER_ID"}]}]}}, "HODEI_WORKER_ID"),
        ({"spec": {"containers": [{"name": "worker", "env": [{"$patch": "replace"}]}]}}, "spec.containers[worker].env"),
        ({"spec": {"containers": [{"name": "worker", "volumeMounts": [{"mountPath": "/run/hodei"}]}]}}, "/run/hodei"),
        ({"spec": {"containers": [{"name": "worker", "volumeMounts": [{"mountPath": "/"}]}]}}, "mount over /"),
        *(
            ({"spec": {"containers": [{"name": "worker", "volumeMounts": [{"mountPath": path}]}]}}, f"over {path}")
            for path in (
                "/run//hodei/credentials",
                "/opt/../run/hodei",
                "run/hodei/",
                "//",
                "/tmp/.",
                "/opt/hodei-agent/",
            )
        ),
        ({"spec": {"initContainers": [{"name": "agent", "image": "a"}]}}, "spec.initContainers[agent]"),
        ({"spec": {"volumes": [{"name": "hodei-tmp", "$patch": "delete"}]}}, "spec.volumes[hodei-tmp]"),
        ({"spec": {"volumes": [{"emptyDir": {}}]}}, "expected a name"),
        ({"spec": {"volumes": ["x"]}}, "expected objects"),
        ({"spec": {"volumes": [{"name": "own", "$patch": "replace"}]}}, "spec.volumes"),
        ({"spec": {"$retainKeys": ["volumes"]}}, "spec.$retainKeys"),
        ({"spec": {"securityContext": {"$retainKeys": []}}}, "spec.securityContext.fsGroup"),
        (
            {"spec": {"containers": [{"name": "worker", "$retainKeys": ["name"]}]}},
            "spec.containers[worker].$retainKeys",
        ),
        (
            {"spec": {"containers": [{"name": "worker", "env": [{"name": "A", "$patch": "replace"}]}]}},
            "may not replace spec.containers[worker].env",
        ),
        (
            {"spec": {"affinity": {"$retainKeys": ["a"], "b": {}}}},
            "spec.affinity.$retainKeys: expected a list of fields",
        ),
        ({"spec": {"affinity": {"$patch": "explode"}}}, "spec.affinity.$patch: expected replace or delete"),
        ({"spec": {"affinity": {"$patch": "merge"}}}, "spec.affinity.$patch: expected replace or delete"),
        ({"spec": {"affinity": {"$other": 1}}}, "spec.affinity.$other: the directive is not known"),
        ({"spec": {"tolerations": [{"$patch": "replace"}]}}, "spec.tolerations: expected no directive"),
        ({"spec": {"$deleteFromPrimitiveList/volumes": ["a"]}}, "spec.$deleteFromPrimitiveList/volumes: expected"),
        (
            {"spec": {"$setElementOrder/tolerations": []}},
            "spec.$setElementOrder/tolerations: expected one of the lists",
        ),
        ({"spec": {"$setElementOrder/volumes": ["a"]}}, "spec.$setElementOrder/volumes: expected objects with a name"),
        (
            {"spec": {"$setElementOrder/hostAliases": [], "hostAliases": "a"}},
            "spec.$setElementOrder/hostAliases: expected",
        ),
        (
            {"spec": {"$setElementOrder/volumes": [{"name": "a"}], "volumes": [{"name": "b"}]}},
            "spec.$setElementOrder/volumes: expected the name of every element",
        ),
    ],
)
def test_what_a_patch_may_not_change_is_named(patch: dict[str, Any], path: str) -> None:
    """At the start, with the setting: who a pod is, what it runs, what it may, how it ends."""
    with pytest.raises(ConfigError) as caught:
        KubernetesConfig(pod_template_patch=patch)
    assert str(caught.value).startswith("HODEI_K8S_POD_TEMPLATE_PATCH: ")
    assert path in str(caught.value).split("can't be used: ")[-1]


def test_a_job_does_not_replace_what_the_patch_sets() -> None:
    """Its label is refused by name."""
    config = KubernetesConfig(pod_template_patch={"metadata": {"labels": {"team": "a"}}})
    assert "POD_TEMPLATE_PATCH" in refused_names({"team": "b"}, {}, config)["labels['team']"]
